"""`meterfold verify`: prove the numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console, exits
from meterfold_cli.installation import ConfigOption, Installation, JsonOption
from meterfold_schemas.plurals import plural

if TYPE_CHECKING:
    from meterfold_processor.verify import TimeRange, VerifyReport

_SHOWN_ORGS = 20


def verify(
    wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="Wait up to this long for the fold to catch up."),
    ] = 10.0,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Only event times at or after this; needs --to.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Only event times before this; needs --from.")
    ] = None,
    contents: Annotated[
        bool,
        typer.Option(
            "--contents/--no-contents",
            help="Compare every stored row with its message, as far as the log reaches.",
        ),
    ] = True,
    limit: Annotated[int, typer.Option(min=1, help="Differences listed per check and partition.")] = 100,
    accept_expired: Annotated[
        bool,
        typer.Option("--accept-expired", help="Exit with 0 if only expired data is not proven."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Prove every number of this installation. Works on a running system.

    Each offset of usage.recorded below the fold's progress is one record, one duplicate or one rejected message, and
    its row matches the message; no identity is counted twice; windows equal a recount of their records; metrics,
    thresholds and actions on alerts match their topics; threshold states follow from windows and definitions, and each
    crossing has exactly one event. Every difference is listed.

    With --from and --to (ISO 8601 with a UTC offset, or a date in UTC): every event time in the range, and the hours,
    days and months that lie entirely in it. A range contains no lifetime.

    Exit code 0: everything is proven. 1: something differs. 3: a server does not answer, or a worker is behind; verify
    again later. 5: no differences, but some data has expired and cannot be recounted.

    Example: meterfold verify --from 2026-10-01 --to 2026-11-01
    """
    from meterfold_cli.logs import configure
    from meterfold_processor.verify import verify as prove
    from meterfold_service.status.groups import group_names

    within = time_range(since, until)
    configure(as_json=as_json)
    installation = Installation.read(config)
    kafka = installation.kafka()
    _, checker_group = group_names(installation.sources, kafka)
    with console.progress("verify") as meter:
        report = prove(
            kafka,
            installation.clickhouse(),
            wait_seconds=wait,
            checker_group=checker_group,
            contents=contents,
            within=within,
            limit=limit,
            tell=lambda done, total, text: meter(done, total, text),
        )
    if as_json:
        console.emit(report)
    else:
        _show(report)
    code = exit_code(report, accept_expired=accept_expired)
    if code != exits.OK:
        raise typer.Exit(code)


def time_range(since: str | None, until: str | None) -> TimeRange | None:
    """Raises WrongInput for an invalid range."""
    from meterfold_processor.verify import TimeRange

    if since is None and until is None:
        return None
    if since is None or until is None:
        raise exits.WrongInput("--from and --to are only valid together: give both, or neither")
    return TimeRange(_time(since), _time(until))


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise exits.WrongInput(f"{text!r} is not a time: write 2026-03-01 or 2026-03-01T00:00:00Z") from error
    if moment.tzinfo is None and len(text) > len("2026-03-01"):
        raise exits.WrongInput(f"{text!r} has no UTC offset: write {text}Z for UTC")
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def exit_code(report: VerifyReport, *, accept_expired: bool = False) -> int:
    """See exits.py."""
    if report.findings:
        return exits.FAILED
    if any(unproven.passing for unproven in report.unproven):
        return exits.UNAVAILABLE
    return exits.EXPIRED if report.unproven and not accept_expired else exits.OK


def _show(report: VerifyReport) -> None:
    headers = (
        *("partition", "from", "to", "log end", "counted", "duplicates", "rejected", "no message", "gone"),
        *("windows", "expired windows", "rows compared"),
    )
    console.table(
        headers,
        [
            (
                str(p.partition),
                p.began_at,
                p.next_offset,
                p.log_end,
                p.counted,
                p.duplicates,
                p.rejected,
                p.no_message,
                p.gone,
                p.windows,
                p.expired_windows,
                p.compared,
            )
            for p in report.partitions
        ],
    )
    console.say()
    if report.orgs:
        console.table(
            ("organization", "counted", "duplicates", "rejected", "in the log"),
            [
                ("(unknown)" if o.org_id is None else o.org_id or '""', o.counted, o.duplicates, o.rejected, o.in_log)
                for o in report.orgs[:_SHOWN_ORGS]
            ],
        )
        if len(report.orgs) > _SHOWN_ORGS:
            console.say(f"and {len(report.orgs) - _SHOWN_ORGS:,} more organizations; --json lists all")
        console.say()
    _show_thresholds(report)
    console.say(f"aggregates   {plural(report.aggregates, 'event')} of usage.aggregated")
    console.say(f"closings     {plural(report.closings, 'closing')} of periods")
    if report.unfolded:
        waiting = ", ".join(map(str, report.unfolded))
        console.say(f"not folded yet and not verified: newer messages of partitions {waiting}")
    for finding in report.findings:
        console.say(f"! {finding}", "bold red")
    if report.more:
        console.say(f"! and {report.more:,} more differences; --limit lists more", "bold red")
    for unproven in report.unproven:
        console.say(f"? {unproven}", "yellow")
    console.say(_summary(report), "green" if report.proven else "bold red" if report.findings else "yellow")


def _show_thresholds(report: VerifyReport) -> None:
    t = report.thresholds
    if t.judged:
        console.say(
            f"thresholds   {plural(t.thresholds, 'threshold')}, {plural(t.windows, 'open window')} judged again, "
            f"{plural(t.states, 'state')}, {plural(t.events, 'event')}, {t.mirrored:,} of them in ClickHouse; "
            f"{plural(t.definitions, 'definition')} and {plural(t.actions, 'action')} on alerts compared"
        )
    else:
        console.say(f"thresholds   {plural(t.thresholds, 'threshold')}, not judged")


def _summary(report: VerifyReport) -> str:
    records = sum(p.counted for p in report.partitions)
    if report.proven:
        windows = sum(p.windows for p in report.partitions)
        if report.range_start is not None:
            return (
                f"proven: {windows:,} windows from {console.plain(report.range_start)} to "
                f"{console.plain(report.range_end)}, and every message that can belong to them ({records:,} records)"
            )
        return f"proven: {plural(records, 'record')} in {plural(windows, 'window')}, every one once"
    if report.findings:
        return f"NOT proven: {plural(len(report.findings) + report.more, 'difference')}"
    return f"no differences, but {plural(len(report.unproven), 'part')} could not be proven"
