"""`meterfold status --wait` waits for what was there at the call: folded, then judged, then copied into ClickHouse."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from meterfold_cli.commands.status import StatusCommand
from meterfold_service.status.catching_up import wait_until_caught_up
from meterfold_service.status.clickhouse_view import ClickHouseView, StoredProgress
from meterfold_service.status.kafka_view import Group, KafkaView, LogBounds, PendingHead, PendingHeads
from meterfold_service.status.report import StatusReport, make_report

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
EXCEEDED = "threshold.exceeded"
RUNNING = Group("checker", "STABLE", 1)
NOBODY = Group("checker", "EMPTY", 0)


def seen(
    *,
    end: int,
    folded: int,
    windows: int = 0,
    judged: int = 0,
    events: int = 0,
    copied: int = 0,
    checker: Group = RUNNING,
    marker: bool = False,
    kafka_error: str | None = None,
) -> StatusReport:
    """One partition. `marker`: what is behind the progress is no event."""
    kafka = KafkaView(
        error=kafka_error,
        recorded={} if kafka_error else {0: LogBounds(0, end)},
        windows={} if kafka_error else {0: LogBounds(0, windows)},
        checked={0: judged},
        mirrored={} if kafka_error else {EXCEEDED: {0: LogBounds(0, events)}},
        fold_group=replace(RUNNING, name="fold"),
        checker_group=checker,
    )
    progress = StoredProgress(folded, 0, folded, 0, 0, NOW, NOW)
    event = PendingHead(NOW.timestamp(), b"")
    waiting = PendingHeads(
        {0: event} if folded < end and not marker else {},
        {0: event} if judged < windows and not marker else {},
        {EXCEEDED: {0: event}} if copied < events and not marker else {},
    )
    clickhouse = ClickHouseView(progress={0: progress}, mirrored={EXCEEDED: {0: copied}})
    return make_report(kafka, clickhouse, waiting, NOW, 60)


class Looks:
    """One report after the other; the last one again and again."""

    def __init__(self, *reports: StatusReport) -> None:
        self.reports = list(reports)
        self.told: list[str] = []
        self.count = 0

    def look(self) -> StatusReport:
        self.count += 1
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]

    def wait(self, seconds: float = 60.0) -> tuple[str, ...]:
        return wait_until_caught_up(self, seconds, self.told.append).behind


def test_events_that_arrive_later_are_not_waited_for() -> None:
    looks = Looks(seen(end=10, folded=4), seen(end=20, folded=9), seen(end=30, folded=10), seen(end=30, folded=10))
    assert looks.wait() == ()
    assert looks.told == ["not folded yet: partition 0"] * 2


def test_a_marker_at_the_end_of_the_log_is_not_waited_for() -> None:
    assert Looks(seen(end=10, folded=9, windows=5, judged=4, events=2, copied=1, marker=True)).wait(0) == ()


def test_the_windows_of_the_folded_events_are_waited_for() -> None:
    looks = Looks(
        seen(end=10, folded=4, windows=1, judged=1),
        seen(end=10, folded=10, windows=1, judged=1),
        # Only now are the windows of the last flush sure to be in the log.
        seen(end=10, folded=10, windows=3, judged=1),
        seen(end=10, folded=10, windows=9, judged=3),
    )
    assert looks.wait() == ()
    assert looks.told == ["not folded yet: partition 0", "not judged by the checker yet: partition 0"]
    assert looks.count == 5


def test_the_threshold_events_of_the_judged_windows_are_waited_for() -> None:
    looks = Looks(
        seen(end=10, folded=10, windows=3, judged=1, events=1, copied=1),
        seen(end=10, folded=10, windows=3, judged=1, events=1, copied=1),
        seen(end=10, folded=10, windows=3, judged=3, events=1, copied=1),
        # Only now are the events of the last judgement sure to be in the log.
        seen(end=10, folded=10, windows=3, judged=3, events=4, copied=1),
        seen(end=10, folded=10, windows=3, judged=3, events=9, copied=4),
    )
    assert looks.wait() == ()
    assert looks.told == [
        "not judged by the checker yet: partition 0",
        "not copied into ClickHouse yet: threshold.exceeded",
    ]
    assert looks.count == 5


def test_without_a_checker_only_the_fold_is_waited_for() -> None:
    assert Looks(seen(end=10, folded=10, windows=3, judged=0, events=3, checker=NOBODY)).wait(0) == ()


def test_when_the_time_is_up_it_says_what_is_behind() -> None:
    assert Looks(seen(end=10, folded=9)).wait(0) == ("not folded yet: partition 0",)
    behind = Looks(seen(end=10, folded=10, windows=3, judged=0)).wait(0)
    assert behind == ("not judged by the checker yet: partition 0",)


def test_a_server_that_is_silent_at_first_hides_nothing() -> None:
    looks = Looks(seen(end=10, folded=4, kafka_error="down"), seen(end=10, folded=4), seen(end=10, folded=10))
    assert looks.wait() == ()
    assert looks.told == ["Kafka does not answer", "not folded yet: partition 0"]
    assert Looks(seen(end=10, folded=10, kafka_error="down")).wait(0) == ("Kafka does not answer",)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--wait"], 60.0),
        (["--wait", "5"], 5.0),
        (["--wait=5"], 5.0),
        (["--wait", "--json"], 60.0),
        (["--json", "--wait"], 60.0),
        (["--json"], None),
    ],
)
def test_the_seconds_of_wait_may_be_left_out(words: list[str], expected: float | None) -> None:
    import typer

    from meterfold_cli.commands.status import status

    app = typer.Typer()
    app.command("status", cls=StatusCommand)(status)
    command: Any = typer.main.get_command(app)
    assert command.make_context("status", list(words)).params["wait"] == expected
