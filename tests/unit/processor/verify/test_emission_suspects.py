"""The columnar comparison suspects exactly the windows in which `Emissions` finds something."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from meterfold_processor.verify.aggregates import Emissions, compare_window, without_window
from meterfold_processor.verify.emission_suspects import EmissionSuspects
from meterfold_processor.verify.timerange import TimeRange
from meterfold_schemas.events import UsageAggregated
from meterfold_schemas.periods import Period, from_micros, micros, period_end, period_start

DAY = datetime(2026, 3, 4, tzinfo=UTC)
TOPIC = "usage.aggregated"
AMOUNTS = ("sum", "min", "max", "last")


@dataclass(frozen=True)
class Sent:
    """Stands for a consumed message."""

    at: int
    name: bytes
    body: bytes | None

    def offset(self) -> int:
        return self.at

    def key(self) -> bytes:
        return self.name

    def value(self) -> bytes | None:
        return self.body


def event(subject: str, period: Period, revision: int, *, final: bool, amount: Decimal) -> UsageAggregated:
    start = 0 if period is Period.LIFETIME else period_start(period, micros(DAY))
    end = period_end(period, start)
    return UsageAggregated(
        occurred_at=DAY,
        org_id="acme",
        metric_key="calls",
        subject_type="user",
        subject_id=subject,
        period_type=period,
        period_start=from_micros(start),
        period_end=None if end is None else from_micros(end),
        partition=0,
        total_quantity=amount,
        record_count=1,
        revision=revision,
        is_final=final,
        **dict.fromkeys(AMOUNTS, amount),
    )


def stored_row(one: UsageAggregated, through: int, amount: Decimal) -> dict[str, Any]:
    return {
        "partition": 0,
        **{name: getattr(one, name) for name in ("org_id", "metric_key", "subject_type", "subject_id")},
        "period_type": one.period_type.value,
        "period_start": micros(one.period_start),
        "record_count": 1,
        **dict.fromkeys(AMOUNTS, amount),
        "folded_through": through,
    }


def named(messages: list[Sent], rows: list[dict[str, Any]], within: TimeRange | None) -> tuple[set[bytes], int]:
    """What is known to be right: one event after the other. The keys in which something is wrong, and the events."""
    emissions, wrong = Emissions(TOPIC, 0, within), set[bytes]()
    for message in messages:
        if list(emissions.take(message.name, message.body, message.at)):
            wrong.add(message.name)
    for row in rows:
        before = dict(emissions.newest)
        if list(compare_window(emissions, row)):
            wrong |= before.keys() - emissions.newest.keys()
    left = {said.offset for said in emissions.newest.values()}
    assert len(list(without_window(emissions))) == len(left)
    return wrong | emissions.newest.keys(), emissions.events


def suspected(
    messages: list[Sent], rows: list[dict[str, Any]], within: TimeRange | None, together: int = 10**6, size: int = 6
) -> tuple[set[bytes], int]:
    suspects = EmissionSuspects(within, together=together)
    for begin in range(0, len(messages), size):
        suspects.take(messages[begin : begin + size])  # type: ignore[arg-type]
    suspects.close()
    decimals = [pa.field(name, pa.decimal128(38, 9)) for name in AMOUNTS]
    texts = [pa.field(n, pa.string()) for n in ("org_id", "metric_key", "subject_type", "subject_id", "period_type")]
    whole = [pa.field(name, pa.int64()) for name in ("period_start", "record_count", "folded_through")]
    schema = pa.schema([pa.field("partition", pa.int32()), *texts, *whole, *decimals])
    suspects.compare(pa.Table.from_pylist(rows, schema).to_batches(max_chunksize=3) if rows else [])
    return suspects.keys, suspects.events


RANGES = (None, TimeRange(DAY - timedelta(days=3), DAY + timedelta(days=1)))


@pytest.mark.parametrize("seed", range(150))
def test_suspects_are_what_is_wrong(seed: int) -> None:
    rng, messages, windows = random.Random(seed), list[Sent](), dict[bytes, tuple[UsageAggregated, int, Decimal]]()
    within = rng.choice(RANGES)
    for _ in range(rng.randrange(1, 12)):
        subject, period = (
            rng.choice(("u1", "u2", "ä\u2028")),
            rng.choice((Period.DAILY, Period.MONTHLY, Period.LIFETIME)),
        )
        key = event(subject, period, 0, final=False, amount=Decimal(0)).key
        before, revision, _ = windows.get(key, (None, 0, Decimal(0)))
        revision += rng.choice((0, 1, 1, 1, 1)) - (rng.random() < 0.05)
        one = event(subject, period, revision, final=rng.random() < 0.3, amount=Decimal(rng.randrange(3)))
        body = None if rng.random() < 0.05 else b"junk" if rng.random() < 0.03 else one.to_bytes()
        messages.append(Sent(len(messages), b"k" if rng.random() < 0.03 else key, body))
        windows[key] = one, max(revision, revision if before is None else before.revision), one.sum
    rows = [
        stored_row(one, through + rng.choice((-1, 0, 0, 0, 2)), amount + (rng.random() < 0.1))
        for one, through, amount in windows.values()
        if rng.random() < 0.9
    ]
    expected = named(messages, rows, within)
    for together, size in ((10**6, 6), (1, 1), (3, 2)):
        assert suspected(messages, rows, within, together, size) == expected, (seed, together)


def test_events_of_few_windows_take_no_more_memory_the_more_they_are() -> None:
    suspects = EmissionSuspects(together=100)
    names = [event(f"u{number}", Period.DAILY, 0, final=False, amount=Decimal(0)) for number in range(7)]
    for revision in range(300):
        one = replace(names[revision % 7], revision=revision)
        suspects.take([Sent(revision, one.key, one.to_bytes())])  # type: ignore[list-item]
        assert suspects._held + suspects._last.height <= 100 + 7
    suspects.close()
    assert (suspects.events, suspects.keys) == (300, set())


def test_a_key_with_escapes_is_looked_at_again() -> None:
    one = event('a "name"', Period.DAILY, 1, final=False, amount=Decimal(1))
    keys, events = suspected([Sent(0, one.key, one.to_bytes())], [stored_row(one, 1, Decimal(1))], None)
    assert (keys, events) == ({one.key}, 1)
    other = replace(one, subject_id="plain")
    assert suspected([Sent(0, other.key, other.to_bytes())], [stored_row(other, 1, Decimal(1))], None)[0] == set()
