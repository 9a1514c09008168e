"""The checker on real Kafka and ClickHouse: windows in, exact events and state out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from meterfold_schemas.periods import Period
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.vocabulary import Level
from support import consume_all, eventually
from support.checker.installation import Installation, running
from support.mortal import mortal_members


@pytest.fixture
def there(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    installation = Installation(kafka_settings, clickhouse_settings)
    yield installation
    installation.close()


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_value_that_rises_and_falls(there: Installation, protocol: str) -> None:
    there.define_metric()
    there.define_threshold()
    with running(there, group_protocol=protocol) as checker:
        checker.ready(2)
        there.use(85)
        there.seen_soon([("t1", "u1", "approaching approaching", 1)])
        there.use(30)
        there.seen_soon([("t1", "u1", "approaching approaching", 1), ("t1", "u1", "exceeded exceeded", 1)])
        there.use(-100)
        there.use(500, "u2", partition=1)
        expected = [
            ("t1", "u1", "approaching approaching", 1),
            ("t1", "u1", "exceeded exceeded", 1),
            ("t1", "u1", "cleared approaching", 1),
            ("t1", "u1", "cleared exceeded", 1),
            ("t1", "u2", "approaching approaching", 1),
            ("t1", "u2", "exceeded exceeded", 1),
        ]
        there.seen_soon(expected)
        checker.end()
    states = there.states()
    assert {name: state.level for name, state in states.items()} == {
        ("t1", "u1"): Level.NONE,
        ("t1", "u2"): Level.EXCEEDED,
    }
    exceeded = next(e for e in there.events() if e.event_type == "threshold.exceeded" and e.subject_id == "u2")
    assert (exceeded.actual_value, exceeded.percentage_used) == (Decimal(500), Decimal(500))
    message = next(
        m
        for m in consume_all(there.kafka, there.topics.threshold_exceeded)
        if dict(m.headers() or ())["ce_id"] == exceeded.event_id.encode()
    )
    headers = dict(message.headers() or ())
    assert (headers["ce_type"], headers["ce_subject"]) == (b"threshold.exceeded", b"user:u2")
    state = next(m for m in consume_all(there.kafka, there.topics.threshold_state) if b'"u2"' in (m.key() or b""))
    assert state.partition() == 1


def test_definitions_are_followed_live(there: Installation) -> None:
    there.define_metric()
    with running(there) as checker:
        checker.ready(2)
        there.use(120)
        there.use(120, "u2", partition=1)
        there.define_threshold()
        both = [("t1", u, f"{level} {level}", 1) for u in ("u1", "u2") for level in ("approaching", "exceeded")]
        there.seen_soon(both)
        there.define_metric(kind="count")
        gone = [("t1", u, f"cleared {level}", 1) for u in ("u1", "u2") for level in ("approaching", "exceeded")]
        there.seen_soon([*both, *gone])
        there.define_metric(kind="max")
        again = [(t, u, e, 2) for t, u, e, _ in both]
        there.seen_soon([*both, *gone, *again])
        there.delete_threshold()
        there.seen_soon([*both, *gone, *again, *((t, u, e, 2) for t, u, e, _ in gone)])


def test_what_happened_while_no_checker_ran(there: Installation) -> None:
    there.define_metric()
    there.define_threshold()
    there.use(120)
    with running(there) as checker:
        there.seen_soon([("t1", "u1", "approaching approaching", 1), ("t1", "u1", "exceeded exceeded", 1)])
        checker.ready(2)
    there.use(-110)
    for partition, value in list(there.published):
        there.publish_bytes(partition, value)  # a zombie of the fold publishes everything again
    there.publish_bytes(0, b"no rows")
    expected = [
        ("t1", "u1", "approaching approaching", 1),
        ("t1", "u1", "exceeded exceeded", 1),
        ("t1", "u1", "cleared approaching", 1),
        ("t1", "u1", "cleared exceeded", 1),
    ]
    with running(there) as checker:
        there.seen_soon(expected)
        eventually(lambda: checker.worker.status.damaged == 1)
        there.use(5)
        eventually(lambda: checker.worker.status.seconds_since_step() is not None)
    there.seen_soon(expected)


def test_a_checker_whose_client_has_given_up_makes_another_and_goes_on(
    there: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = mortal_members(monkeypatch)
    there.define_metric()
    there.define_threshold()
    with running(there) as checker:
        checker.ready(2)
        there.use(60)
        members[0].gave_up = True
        eventually(lambda: len(members) == 2, 30, "a second client")
        there.use(70)
        there.seen_soon([("t1", "u1", event, 1) for event in ("approaching approaching", "exceeded exceeded")])
        checker.ready(2)


def test_aggregates_are_throttled_and_end_with_a_final_one(there: Installation) -> None:
    # Not yesterday: until one o'clock that day's window is within its grace.
    long_over = datetime.now(UTC) - timedelta(days=2)
    there.define_metric()
    with running(there, aggregated_periods=["daily"], emit_interval_seconds=0.2) as checker:
        checker.ready(2)
        there.progress(0, long_over)
        for quantity in (1, 2, 3):
            there.use_many([("u1", quantity)], at=long_over)
        eventually(lambda: there.aggregates()[-1].is_final if there.aggregates() else False, 30)
        there.use(4, at=long_over)
        eventually(lambda: there.aggregates()[-1].revision == 3, 30)
    found = there.aggregates()
    revisions = [(event.revision, event.is_final) for event in found]
    assert revisions == sorted(set(revisions))
    assert revisions[-2:] == [(2, True), (3, True)]
    assert [found[-1].total_quantity, found[-1].previous_total] == [Decimal(10), Decimal(6)]
    assert {event.period_type for event in found} == {Period.DAILY}
    newest = {event.event_id for event in found}
    assert len(newest) == len(found)
