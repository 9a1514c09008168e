"""`meterfold status`: the state of an installation, also while Kafka or ClickHouse is down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from meterfold_cli import console, exits
from meterfold_cli.exits import WrongInput
from meterfold_cli.installation import ConfigOption, Installation, JsonOption
from meterfold_schemas.plurals import plural

if TYPE_CHECKING:
    from meterfold_service.status.kafka_view import Group
    from meterfold_service.status.look import Inspector
    from meterfold_service.status.report import StatusReport

WATCH_SECONDS = 2.0
WAIT_SECONDS = 60


class StatusCommand(TyperCommand):
    """`--wait` without seconds means 60 of them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place, word in enumerate(args):
            if word == "--wait" and (place + 1 == len(args) or args[place + 1].startswith("-")):
                args = [*args[:place], f"--wait={WAIT_SECONDS}", *args[place + 1 :]]
        return super().parse_args(ctx, args)


def status(
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="[SECONDS]",
            min=0,
            help="Wait up to this long until everything that is in the topics now is folded, judged and in ClickHouse "
            f"(default: {WAIT_SECONDS}).",
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat every 2 seconds, until Ctrl-C.")] = False,
    stuck_after: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="An event that waits longer than this is stuck.")
    ] = 60.0,
    rejected_within: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="Report messages that arrived within this time and were rejected; 0: none."
        ),
    ] = 3600.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show offsets, lag, last flush, counts and problems.

    Exit code 0: no problems. 1: something is missing, events are stuck, messages were rejected recently, or events wait
    for a notifier; the last lines name them. 3: a server did not answer; or with --wait, fold or checker did not catch
    up in time.

    Example: meterfold status --wait 30
    """
    from meterfold_cli.logs import configure
    from meterfold_service.status.look import Inspector

    if watch and wait is not None:
        raise WrongInput("--wait shows the status once, when everything is processed; leave out --watch")
    configure(as_json=as_json)
    installation = Installation.read(config)
    with Inspector(
        installation.sources, installation.kafka(), installation.clickhouse(), stuck_after, rejected_within
    ) as inspector:
        if wait is not None:
            _wait(inspector, wait, as_json=as_json)
            return
        while True:
            report = inspector.look()
            if watch and not as_json and console.out().is_terminal:
                console.out().clear()
            if as_json:
                console.emit(report)
            else:
                _show(report)
            _name_silent(report)
            if not watch:
                break
            time.sleep(WATCH_SECONDS)
    if not report.well:
        raise typer.Exit(_code(report))


def _wait(inspector: Inspector, seconds: float, *, as_json: bool) -> None:
    from meterfold_service.status.catching_up import wait_until_caught_up

    with console.progress("status") as meter:
        end = wait_until_caught_up(inspector, seconds, lambda text: meter(0, None, text))
    if as_json:
        console.emit({**console.plain(end.report), "behind": end.behind})
    else:
        _show(end.report, [f"after {seconds:g} s {text}" for text in end.behind])
    _name_silent(end.report)
    if not end.report.well:
        raise typer.Exit(_code(end.report))
    if end.behind:
        raise typer.Exit(exits.UNAVAILABLE)


def _code(report: StatusReport) -> int:
    return exits.UNAVAILABLE if report.silent else exits.FAILED


def _name_silent(report: StatusReport) -> None:
    """On standard error, as every other command."""
    for server in report.silent:
        console.fail(server)


def _show(report: StatusReport, behind: Sequence[str] = ()) -> None:
    kafka, clickhouse = report.kafka, report.clickhouse
    known = f"{plural(kafka.brokers, 'broker')}, {plural(len(kafka.topics), 'topic')}"
    console.say(f"Kafka       {_server(kafka.error, known)}")
    console.say(
        f"ClickHouse  {_server(clickhouse.error, f'version {clickhouse.version}' if clickhouse.version else 'up')}"
    )
    if kafka.error is None:
        console.say(f"fold        {_group(kafka.fold_group)}")
        console.say(f"checker     {_group(kafka.checker_group)}")
        console.say(f"notifier    {_notifier(report)}")
    if report.counted is not None:
        console.say(
            f"events      {report.counted:,} counted, {report.duplicates:,} duplicates, {report.rejected:,} rejected"
        )
    if clickhouse.backup is not None:
        backup = clickhouse.backup
        console.say(
            f"backup      {backup.name}, {_ago(backup.started_at, report.at)}; Kafka can repair it until "
            f"{console.plain(backup.replayable_until)}"
        )
    if report.partitions:
        console.say()
        headers = (
            *("partition", "state", "log start", "log end", "next", "lag", "waiting", "counted", "duplicates"),
            *("rejected", "last event", "last flush", "checker lag"),
        )
        console.table(
            headers,
            [
                (
                    str(p.partition),
                    p.state,
                    p.log_start,
                    p.log_end,
                    p.next_offset,
                    p.lag,
                    None if p.waiting_seconds is None else f"{p.waiting_seconds:.0f} s",
                    p.counted,
                    p.duplicates,
                    p.rejected,
                    _ago(p.last_stamp, report.at),
                    _ago(p.flushed_at, report.at),
                    p.checker_lag,
                )
                for p in report.partitions
            ],
        )
    console.say()
    for problem in (*(one for one in report.problems if one not in report.silent), *behind):
        console.say(f"! {problem}", "bold red")
    for note in report.notes:
        console.say(f"note: {note}", "yellow")
    if report.well and not behind:
        console.say("all is well", "green")


def _server(error: str | None, well: str) -> str:
    return "does not answer" if error is not None else well


def _group(group: Group | None) -> str:
    if group is None or group.is_empty:
        return "no worker is running"
    return plural(group.members, "worker") if group.members is not None else f"running ({group.state})"


def _notifier(report: StatusReport) -> str:
    """The members of its group, the events that it has not read, and what is to be sent."""
    notifier = report.notifier
    texts = [_group(report.kafka.notify_group)]
    if not notifier.wanted:
        texts.append("no threshold names a mail address or a webhook")
    if behind := sum(notifier.lag.values()):
        texts.append(f"{plural(behind, 'event')} behind")
    if notifier.waiting:
        failing = f", {notifier.failing:,} after a failed try" if notifier.failing else ""
        texts.append(f"{plural(notifier.waiting, 'delivery', 'deliveries')} waiting{failing}")
    return "; ".join(texts)


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "-"
    seconds = max(0.0, (now - moment).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
