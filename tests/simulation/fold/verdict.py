"""Comparison of the model store with the oracle: at every progress row, and at the end."""

from __future__ import annotations

from decimal import Decimal
from functools import reduce
from typing import Any

from meterfold_schemas.periods import micros
from simulation.fold.logs import Log
from simulation.fold.model_store import ModelStore, WindowKey
from simulation.fold.oracle import EXACT, PERIODS, Event, Outcome, start_of


def check_progress(store: ModelStore, log: Log) -> None:
    """Conservation: whatever stands below the progress row is recorded, and the windows hold it."""
    progress = store.now.progress
    assert progress is not None
    below = [event for event in log.events if event.offset < progress.next_offset]
    counted = {event.offset for event in below if event.offset in store.now.records or event.offset in store.expired}
    duplicates = {event.offset for event in below if event.offset in store.now.duplicates}
    rejected = {event.offset for event in below if event.offset in store.now.rejected}
    sizes = (progress.counted, progress.duplicates, progress.rejected)
    lost = {event.offset for event in below} - counted - duplicates - rejected
    assert not lost, f"offsets {sorted(lost)} are below the progress row {progress} and recorded nowhere"
    assert sizes == (len(counted), len(duplicates), len(rejected)), f"{progress} counts wrong: {sizes}"
    assert progress.last_stamp == (below[-1].stamp if below else None)
    for event in below:
        if event.offset in counted:
            for key in keys_of(event):
                row = store.now.windows.get(key)
                assert row is not None, f"window {key} is missing, offset {event.offset} is in {progress}"
                assert row["folded_through"] >= event.offset, f"window {key} misses offset {event.offset}"


def check_windows(store: ModelStore) -> None:
    """Reconciliation at any moment: a window holds exactly its records up to its `folded_through`."""
    records = {**store.expired, **store.now.records}.values()
    sums: dict[WindowKey, list[tuple[int, Decimal]]] = {}
    for row in records:
        subject = (row["org_id"], row["metric_key"], row["subject_type"], row["subject_id"])
        for period in PERIODS:
            key = (period, start_of(period, micros(row["timestamp"])), *subject)
            sums.setdefault(key, []).append((row["offset"], row["quantity"]))
    for key, window in store.now.windows.items():
        inside = [quantity for offset, quantity in sums.get(key, []) if offset <= window["folded_through"]]
        assert window["record_count"] == len(inside), f"window {key} shows events that are not recorded"
        assert window["sum"] == reduce(EXACT.add, inside, Decimal(0)), f"window {key} is not the sum of its records"


def check_so_far(store: ModelStore, outcome: Outcome) -> None:
    """Rows that are there are right, also where the fold has stopped in the middle."""
    assert set(store.now.records) <= outcome.counted, "counted what must not count"
    assert {o: r["counted_offset"] for o, r in store.now.duplicates.items()}.items() <= outcome.duplicates.items()
    assert {o: r["reason"] for o, r in store.now.rejected.items()}.items() <= outcome.rejected.items()


def check_end(store: ModelStore, log: Log, outcome: Outcome) -> None:
    """Every row of every table equals the oracle; every window's final row was published, after it was stored."""
    check_progress(store, log)
    progress = store.now.progress
    assert progress is not None
    assert progress.next_offset == log.end
    by_offset = {event.offset: event for event in log.events}
    messages = {message.at_offset: message for message in log.messages}

    assert store.now.records.keys() | store.expired.keys() == outcome.counted
    for offset, row in store.now.records.items():
        _check_event(row, by_offset[offset])
        assert row["resource_type"] == "route"
        assert row["metadata"] == f'{{"at": {offset}}}'
    assert {offset: row["counted_offset"] for offset, row in store.now.duplicates.items()} == outcome.duplicates
    for offset, row in store.now.duplicates.items():
        _check_event(row, by_offset[offset])
    assert {offset: row["reason"] for offset, row in store.now.rejected.items()} == outcome.rejected
    assert store.originals.keys() == outcome.rejected.keys()
    for offset, row in store.now.rejected.items():
        message, original = messages[offset], store.originals[offset]
        assert row["value"] == original.value == (message.raw_value or b"")
        assert row["key"] == (message.raw_key or b"")
        assert original.key == message.raw_key
        assert micros(row["received_at"]) == message.stamp

    windows = {key: _values(row) for key, row in store.now.windows.items()}
    assert windows == _expected_windows(outcome)
    for key, row in store.now.windows.items():
        assert (key, row["folded_through"]) in store.published, f"nobody heard of the final row of {key}"


def keys_of(event: Event) -> list[WindowKey]:
    return [(period, start_of(period, event.time), *event.subject) for period in PERIODS]


def _check_event(row: dict[str, Any], event: Event) -> None:
    assert (row["org_id"], row["metric_key"], row["subject_type"], row["subject_id"]) == event.subject
    assert (row["id"], row["quantity"], micros(row["timestamp"])) == (event.id, event.quantity, event.time)
    assert micros(row["received_at"]) == event.stamp


def _values(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["record_count"],
        row["sum"],
        row["min"],
        row["max"],
        (micros(row["last_timestamp"]), row["last_offset"], row["last"]),
        row["folded_through"],
    )


def _expected_windows(outcome: Outcome) -> dict[WindowKey, tuple[Any, ...]]:
    return {
        (period, start, *subject): (w.count, w.sum, w.min, w.max, w.last, w.through)
        for (subject, period, start), w in outcome.windows.items()
    }
