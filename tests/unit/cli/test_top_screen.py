"""`meterfold top`: rates between looks, and what a frame shows in any width."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from rich.console import Console

from meterfold_cli.top.looks import Frame, Rates, Seen, rates
from meterfold_cli.top.screen import drawn, waiting
from meterfold_service.status.clickhouse_view import ClickHouseView, StoredProgress
from meterfold_service.status.kafka_view import Group, KafkaView, LogBounds, PendingHead, PendingHeads
from meterfold_service.status.report import make_report
from meterfold_sink.busiest import BusySubject
from meterfold_sink.threshold_levels import JudgedWindow, WindowNow

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
GROUP = Group("g", "STABLE", 2)
KAFKA = KafkaView(
    brokers=3,
    recorded={0: LogBounds(0, 1500), 1: LogBounds(0, 40)},
    windows={0: LogBounds(0, 10), 1: LogBounds(0, 4)},
    checked={0: 8, 1: 4},
    fold_group=GROUP,
    checker_group=None,
)
STORED = ClickHouseView(
    version="26.9",
    progress={number: StoredProgress(40, 0, 38, 1, 1, NOW, NOW - timedelta(seconds=1)) for number in (0, 1)},
)


def near(subject: str, percentage: str, level: str = "exceeded") -> JudgedWindow:
    window = WindowNow("acme", "user", subject, NOW, None, level, Decimal(percentage) * 10, Decimal(percentage), NOW)
    return JudgedWindow("t1", "quota", "api.calls", "monthly", Decimal(1000), "alert", window)


def frame(kafka: KafkaView = KAFKA, clickhouse: ClickHouseView = STORED, **changes: object) -> Frame:
    heads = PendingHeads({0: PendingHead(NOW.timestamp() - 7, b"")}, {0: PendingHead(NOW.timestamp(), b"")})
    shown = Frame(
        make_report(kafka, clickhouse, heads, NOW, 60.0),
        Rates(1234.4, None),
        (BusySubject("", "api.calls", "user", "ada", 12_345, Decimal("1.50")),),
        (near("ada", "250"), near("bob", "85.5", "approaching")),
        3,
    )
    return replace(shown, **changes)  # type: ignore[arg-type]


def text(shown: Frame, width: int = 120, *, overdue: float = 0.0) -> str:
    out = io.StringIO()
    picture = drawn(shown, NOW + timedelta(seconds=4), rows=5, width=width, overdue_seconds=overdue)
    Console(file=out, width=width).print(picture)
    return out.getvalue()


def test_rates_are_differences_over_time() -> None:
    before = Seen(10.0, 100, 50)
    assert rates(before, Seen(12.0, 300, 50)) == Rates(100.0, 0.0)
    assert rates(before, Seen(12.0, None, 60)) == Rates(None, 5.0)
    assert rates(before, Seen(12.0, 20, 60)) == Rates(None, 5.0)  # a topic that was created again
    assert rates(before, Seen(10.0, 300, 60)) == Rates(None, None)


def test_a_frame_shows_rates_lag_subjects_and_thresholds() -> None:
    shown = text(frame())
    for words in (
        "meterfold top  2026-11-22T12:30:00Z  4 s ago",
        "Kafka 3 brokers  ClickHouse version 26.9  fold 2 workers  checker not running",
        "recorded 1,234/s  folded -/s  lag 1,460  oldest waits 7 s  checker lag 2  pending alerts 3",
        "total 76 counted, 2",
        "Busiest subjects since 11:00 UTC",
        "12,345        1.5   api.calls   user:ada",
        "██████████    250 %    2500    1000   quota       api.calls   user:ada of acme",
        "████████░░   85.5 %     855    1000   quota       api.calls   user:bob of acme",
        "Partitions behind",
        "1,460       7 s",
    ):
        assert words in shown, shown
    assert "no answer" not in shown


def test_a_server_that_does_not_answer_is_named() -> None:
    shown = text(frame(clickhouse=ClickHouseView(error="refused"), subjects=None, near=None, pending_alerts=None))
    assert "ClickHouse does not answer" in shown
    assert "pending alerts -" in shown
    shown = text(frame(kafka=KafkaView(error="refused")), overdue=8.4)
    assert "Kafka does not answer" in shown
    assert "no answer for 8 s; the numbers below are old" in shown


@pytest.mark.parametrize("width", [20, 40, 60, 79, 80, 200])
def test_it_fits_any_width(width: int) -> None:
    lines = text(frame(), width).splitlines()
    assert max(map(len, lines)) <= width
    assert ("░" in "".join(lines)) == (width >= 80)


def test_nothing_yet() -> None:
    assert "Busiest subjects since 11:00 UTC: no usage" in text(frame(subjects=()))
    assert "Thresholds near their limit: none" in text(frame(near=()))
    out = io.StringIO()
    Console(file=out, width=80).print(waiting(2.6))
    assert "asking Kafka and ClickHouse (3 s)" in out.getvalue()
