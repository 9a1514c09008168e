"""`meterfold status`: how it is, also while Kafka or ClickHouse is down."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_deploy import console, exits
from meterfold_deploy.installation import ConfigOption, Installation, JsonOption

if TYPE_CHECKING:
    from meterfold_deploy.health.kafka_view import Group
    from meterfold_deploy.health.report import Report

WATCH_SECONDS = 2.0


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 seconds, until Ctrl-C.")] = False,
    stuck_after: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="An event may wait so long before it counts as stuck.")
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
    """Show offsets, lag, last flush and counts, and what is wrong.

    Exit code 0: all is well. 1: a server is down, something is missing, nothing moves, or messages were rejected; the
    last lines say what.
    """
    from meterfold_deploy.health.look import Health
    from meterfold_deploy.logs import configure

    configure(as_json=as_json)
    installation = Installation.read(config)
    health = Health(installation.sources, installation.kafka(), installation.clickhouse(), stuck_after, rejected_within)
    while True:
        report = health.look()
        if watch and not as_json and console.out().is_terminal:
            console.out().clear()
        if as_json:
            console.emit(report)
        else:
            _show(report)
        if not watch:
            break
        time.sleep(WATCH_SECONDS)
    if not report.well:
        raise typer.Exit(exits.FAILED)


def _show(report: Report) -> None:
    kafka, clickhouse = report.kafka, report.clickhouse
    console.say(f"Kafka       {_server(kafka.error, f'{kafka.brokers} broker(s), {len(kafka.topics)} topics')}")
    console.say(
        f"ClickHouse  {_server(clickhouse.error, f'version {clickhouse.version}' if clickhouse.version else 'up')}"
    )
    if kafka.error is None:
        console.say(f"fold        {_group(kafka.fold_group)}")
        console.say(f"checker     {_group(kafka.checker_group)}")
    if report.counted is not None:
        console.say(
            f"events      {report.counted:,} counted, {report.duplicates:,} duplicates, {report.rejected:,} rejected"
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
    for problem in report.problems:
        console.say(f"! {problem}", "bold red")
    if report.well:
        console.say("all is well", "green")


def _server(error: str | None, well: str) -> str:
    return "does not answer" if error is not None else well


def _group(group: Group | None) -> str:
    if group is None or group.nobody:
        return "no worker is running"
    return f"{group.members} worker(s)" if group.members is not None else f"running ({group.state})"


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "-"
    seconds = max(0.0, (now - moment).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
