"""`meterfold notify`: one notifier, and what became of its deliveries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console, exits
from meterfold_cli.commands.fold import JsonLinesOption, VerboseOption
from meterfold_cli.commands.metric import LimitOption
from meterfold_cli.exits import WrongInput
from meterfold_cli.installation import ConfigOption, Installation, JsonOption
from meterfold_cli.spans import SPAN_HELP, span
from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.periods import from_micros
from meterfold_schemas.plurals import plural

if TYPE_CHECKING:
    from meterfold_cli.workers import Snapshot
    from meterfold_service.notify.status import NotifyStatus

app = typer.Typer()


@app.callback(invoke_without_command=True)
def notify(
    context: typer.Context,
    config: ConfigOption = None,
    as_json: JsonLinesOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Send notifications of alerts, and show what became of them.

    Without a subcommand, runs a notifier: it sends threshold events by e-mail, as signed webhooks, and to the
    operators' chats. A threshold names its mail addresses and its webhook; the settings [notify] say how they are
    reached. SIGTERM or Ctrl-C stops the notifier within 10 seconds (exit code 0); tries that are interrupted are
    repeated by the next one. A fatal error is printed on standard error (exit code 1).

    Example: meterfold notify --config /etc/meterfold.toml
    """
    if context.invoked_subcommand is not None:
        return
    from meterfold_cli.logs import configure
    from meterfold_cli.telemetry import worker_spans
    from meterfold_cli.workers import run_probed
    from meterfold_schemas.settings import load_settings
    from meterfold_service.notify.probes import NotifySubject
    from meterfold_service.notify.settings import NotifySettings
    from meterfold_service.notify.worker import NotifyWorker

    configure(as_json=as_json, verbose=verbose)
    installation = Installation.read(config)
    settings = load_settings(NotifySettings, "notify", sources=installation.sources)
    spans = worker_spans("notify")
    worker = NotifyWorker(settings, installation.kafka(), installation.clickhouse(), spans=spans)
    subject = NotifySubject(worker.status)
    run_probed("notify", worker, subject, lambda: snapshot(worker.status), installation, as_json=as_json)


def snapshot(status: NotifyStatus) -> Snapshot:
    """A notifier is ready when it reads partitions."""
    from meterfold_cli.workers import Snapshot

    partitions = sorted({partition for _, partition in status.positions})
    tries: dict[str, int] = {}
    for (_, state), count in dict(status.tries).items():
        tries[state] = tries.get(state, 0) + count
    damaged = [f"{plural(status.damaged, 'event')} could not be read"] if status.damaged else []
    waiting = sum(count for count, _ in dict(status.waiting).values())
    return Snapshot(
        ready=bool(partitions),
        text=(
            f"partitions {', '.join(map(str, partitions)) or 'none'}; {status.planned:,} planned, "
            f"{tries.get('delivered', 0):,} delivered, {waiting:,} waiting"
        ),
        values={"partitions": partitions, "planned": status.planned, "tries": tries, "waiting": waiting},
        troubles=[*dict(status.errors).values(), *damaged],
    )


StateOption = Annotated[
    str | None,
    typer.Option(help="Only these: pending, sending, retrying, delivered, failed, expired or disabled."),
]
ChannelOption = Annotated[str | None, typer.Option(help="Only this channel: email, webhook or chat.")]
TargetOption = Annotated[str | None, typer.Option(help="Only this mail address, webhook URL or chat target.")]
EventOption = Annotated[str | None, typer.Option("--event", metavar="ID", help="Only deliveries of this event.")]
OrgOption = Annotated[str | None, typer.Option("--org", help="Only deliveries of this organization.")]
FromOption = Annotated[str | None, typer.Option("--from", metavar="TIME", help=f"Events from here on: {SPAN_HELP}.")]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Events before this time. [default: now]")]


@app.command("list")
def list_(
    state: StateOption = None,
    channel: ChannelOption = None,
    target: TargetOption = None,
    event: EventOption = None,
    org: OrgOption = None,
    threshold: Annotated[str | None, typer.Option(metavar="ID", help="Only events of this threshold.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Only events of the last 90m, 12h, 7d or 4w.")
    ] = None,
    limit: LimitOption = 100,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Continue after the page that printed this cursor.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List deliveries, those of the newest events first.

    Example: meterfold notify list --state failed --since 7d
    """
    from meterfold_cli.commands.metric import metering

    with metering(config) as service:
        page = service.notifications.list(
            state=state,
            channel=channel,
            target=target,
            event_id=event,
            org_id=org,
            threshold_id=threshold,
            start=None if since is None else span(datetime.now(UTC), since=since)[0],
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        console.emit(page)
        return
    console.table(
        ["event", "type", "metric", "subject", "channel", "target", "state", "tries", "status", "next try", "error"],
        [
            (
                row.event_id,
                row.event_type,
                row.metric_key,
                None if row.subject_id is None else f"{row.subject_type}/{row.subject_id}",
                row.channel,
                row.target,
                row.state,
                row.attempts,
                row.status or None,
                row.due_at.replace(microsecond=0) if row.state in ("pending", "retrying") else None,
                row.error or None,
            )
            for row in page.rows
        ],
    )
    if page.cursor is not None:
        console.note(f"More: --cursor '{page.cursor}'")


@app.command("show")
def show(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="Id of the event, as shown by `notify list`.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every try of the deliveries of one event.

    Example: meterfold notify show 4c1b6bd4-3c5c-5a41-9d3f-0a4f5f2c7f10
    """
    from meterfold_cli.commands.metric import metering

    with metering(config) as service:
        tries = service.notifications.tries(event)
    if not tries:
        raise WrongInput(f"event {event!r} has no deliveries; `meterfold notify list` shows those that have")
    if as_json:
        console.emit(tries)
        return
    console.table(
        ["channel", "target", "round", "try", "state", "status", "began", "error"],
        [
            (
                row.channel,
                row.target,
                from_micros(row.round) if row.round else "first",
                row.attempt,
                row.state,
                row.status or None,
                row.started_at,
                row.error or None,
            )
            for row in tries
        ],
    )


@app.command("redeliver")
def redeliver(
    start: FromOption = None,
    end: ToOption = None,
    channel: ChannelOption = None,
    target: TargetOption = None,
    event: EventOption = None,
    org: OrgOption = None,
    threshold: Annotated[str | None, typer.Option(metavar="ID", help="Only events of this threshold.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what was delivered. [default: only what was not and is not retried]")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send the deliveries of a time range, or of one event, again.

    Receivers get the same ids as before, so they recognise what they have. The running notifier sends the deliveries.

    Example: meterfold notify redeliver --from 2026-11-01 --to 2026-11-08
    """
    from meterfold_cli.commands.metric import metering
    from meterfold_service.notify.operations import STATES, UNDELIVERED

    if start is None and event is None:
        raise WrongInput("give --from, with or without --to, or --event")
    begin, until = (None, None) if start is None else span(datetime.now(UTC), start=start, end=end)
    with metering(config) as service:
        count = service.notifications.redeliver(
            start=begin,
            end=until,
            channel=channel,
            target=target,
            event_id=event,
            org_id=org,
            threshold_id=threshold,
            states=STATES if everything else UNDELIVERED,
        )
    if as_json:
        console.emit({"deliveries": count})
    else:
        console.say(f"{plural(count, 'delivery', 'deliveries')} requested; the running notifier sends them")


@app.command("test")
def send_test(
    channel: Annotated[str, typer.Argument(help="email, webhook or chat.")],
    target: Annotated[str, typer.Argument(help="A mail address, the URL of a webhook, or the name of a chat target.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a test message through the running notifier, as it sends every event.

    Exits with 1 if the message was not delivered, and with 3 if no notifier is running.

    Example: meterfold notify test webhook https://hooks.example.com/meterfold
    """
    from meterfold_cli.commands.metric import metering

    with metering(config) as service:
        done = service.notifications.test(channel, target)  # type: ignore[arg-type]  # it says what is allowed
    if as_json:
        console.emit(done)
    elif done.state == "delivered":
        console.say(f"delivered to {target}" + (f" (status {done.status})" if done.status else ""))
    if done.state != "delivered":
        if not as_json:
            console.fail(f"the test message to {target} was not delivered: {done.error}")
        raise typer.Exit(exits.FAILED)


@app.command("endpoints")
def endpoints(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List webhook endpoints that fail or are disabled, and those that were.

    Example: meterfold notify endpoints
    """
    from meterfold_cli.commands.metric import metering

    with metering(config) as service:
        found = service.notifications.endpoints()
    if as_json:
        console.emit(found)
        return
    console.table(
        ["endpoint", "state", "failing since", "changed", "reason"],
        [(row.endpoint, row.state, row.since, row.changed_at.replace(microsecond=0), row.reason) for row in found],
    )


@app.command("enable")
def enable(
    endpoint: Annotated[str, typer.Argument(metavar="URL", help="URL of the webhook.")],
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who does it. [default: your login name on this machine]")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send to a disabled webhook endpoint again.

    What it has missed needs `meterfold notify redeliver --target URL --from TIME`.

    Example: meterfold notify enable https://hooks.example.com/meterfold
    """
    from meterfold_cli.commands.metric import metering
    from meterfold_cli.wording.alerts import login_name

    with metering(config) as service:
        found = service.notifications.enable(endpoint, by=login_name() if by is None else by)
    if as_json:
        console.emit(found)
    else:
        console.say(f"{found.endpoint} is {found.state}: {found.reason}")


@app.command("secret")
def secret(
    endpoint: Annotated[str, typer.Argument(metavar="URL", help="URL of the webhook, exactly as in its threshold.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the secrets that the receiver of a webhook verifies signatures with, the newest first.

    Give them to the receiver only. While METERFOLD_NOTIFY_WEBHOOK_SECRETS has several, each of them signs.

    Example: meterfold notify secret https://hooks.example.com/meterfold
    """
    from meterfold_schemas.settings import load_settings
    from meterfold_service.notify.settings import NotifySettings
    from meterfold_service.notify.signing import endpoint_secrets

    settings = load_settings(NotifySettings, "notify", sources=Installation.read(config).sources)
    if not settings.webhook_secrets:
        raise InvalidSettings(
            "no secret is set: set METERFOLD_NOTIFY_WEBHOOK_SECRETS to one that `meterfold notify new-secret` prints"
        )
    found = [made.get_secret_value() for made in endpoint_secrets(settings.webhook_secrets, endpoint)]
    if as_json:
        console.emit(found)
    else:
        for text in found:
            console.say(text)


@app.command("new-secret")
def new_secret() -> None:
    """Print a random secret for METERFOLD_NOTIFY_WEBHOOK_SECRETS.

    Example: meterfold notify new-secret
    """
    from meterfold_service.notify.signing import new_secret

    console.say(new_secret())
