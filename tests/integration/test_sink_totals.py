"""The totals that ClickHouse makes of windows and records are those that Python makes of the same state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterfold_local.stack import LocalStack
from meterfold_schemas.keys import partition_of, subject_key
from meterfold_schemas.periods import Period, micros
from meterfold_schemas.quantities import MAX_STORED, MAX_UNSCALED, exact_unscaled, to_decimal
from meterfold_schemas.totals import STATE, WindowValues, total_of
from meterfold_schemas.vocabulary import AggregationType
from meterfold_sink.client import Client
from meterfold_sink.usage_records import usage_records
from meterfold_sink.usage_states import Of
from support.sink.database import RULES, database, insert
from support.sink.rows import NOW, Record, records_table, window, windows_table

# Not long ago: records expire.
HOUR = NOW.replace(minute=0, second=0) - timedelta(hours=2)
FEW_EXAMPLES = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
NUMBERS = count()

QUANTITIES = st.integers(-MAX_UNSCALED, MAX_UNSCALED) | st.integers(-3, 3) | st.sampled_from([MAX_UNSCALED, 1, 5])
SUMS = st.integers(-MAX_STORED, MAX_STORED) | st.integers(-10, 10) | st.sampled_from([MAX_STORED, -MAX_STORED])
COUNTS = st.integers(1, 7) | st.integers(1, 2**62)
WINDOWS = st.lists(st.builds(WindowValues, COUNTS, SUMS, QUANTITIES, QUANTITIES, QUANTITIES), min_size=20, max_size=80)


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        for kind in AggregationType:
            client.command(
                "INSERT INTO metric_definitions (id, key, name, unit, aggregation_type, reset_period, is_active, "
                "version) SELECT {key:String}, {key:String}, 'n', 'u', {key:String}, 'monthly', true, 1",
                {"key": kind.value},
            )
        yield client


def test_every_aggregation_type_has_its_state() -> None:
    assert list(STATE) == list(AggregationType)
    assert {name for needed in STATE.values() for name in needed} == set(WindowValues.__slots__)


@FEW_EXAMPLES
@given(WINDOWS)
def test_windows_have_the_totals_of_python(client: Client, states: list[WindowValues]) -> None:
    """Each state as a window of six metrics, one per type, all of them read by one query."""
    example = f"example-{next(NUMBERS)}"
    written = [
        window(
            Period.HOURLY,
            HOUR,
            to_decimal(state.sum),
            org_id=example,
            metric_key=kind.value,
            subject_id=str(place),
            record_count=state.count,
            min=to_decimal(state.min),
            max=to_decimal(state.max),
            last=to_decimal(state.last),
        )
        for place, state in enumerate(states)
        for kind in AggregationType
    ]
    insert(client, "usage_windows", windows_table(written))
    rows = client.rows(
        "SELECT metric_key, toUInt32(subject_id) AS place, total_quantity FROM usage_hourly "
        "WHERE org_id = {org:String}",
        {"org": example},
    )
    found = {(row["metric_key"], row["place"]): exact_unscaled(row["total_quantity"]) for row in rows}
    assert found == {
        (kind.value, place): total_of(kind, state) for place, state in enumerate(states) for kind in AggregationType
    }


@FEW_EXAMPLES
@given(st.lists(st.tuples(QUANTITIES, st.integers(0, 3)), min_size=1, max_size=20))
def test_records_have_the_totals_of_python(client: Client, events: list[tuple[int, int]]) -> None:
    """The total of usage.get, from the records. Several have the same timestamp: the offset decides which is last."""
    example = f"records-{next(NUMBERS)}"
    last = max(range(len(events)), key=lambda place: (events[place][1], place))
    quantities = [quantity for quantity, _ in events]
    state = WindowValues(len(events), sum(quantities), min(quantities), max(quantities), quantities[last])
    for kind in AggregationType:
        records = _records(example, kind, events)
        insert(client, "usage_records", records)
        of = Of(kind.value, example, ("user", "s"))
        page = usage_records(client, RULES, of, micros(HOUR), micros(HOUR + timedelta(hours=1)))
        assert page.total == len(events)
        assert page.total_quantity is not None
        assert exact_unscaled(page.total_quantity) == total_of(kind, state), kind


def _records(org_id: str, kind: AggregationType, events: list[tuple[int, int]]) -> Any:
    partition = partition_of(subject_key(org_id, kind.value, "user", "s"), RULES.partition_count)
    return records_table(
        Record(
            next(NUMBERS),
            HOUR + timedelta(seconds=second),
            to_decimal(quantity),
            subject_id="s",
            metric_key=kind.value,
            org_id=org_id,
            partition=partition,
        )
        for quantity, second in events
    )
