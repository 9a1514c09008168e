"""Every row of every table, and every message, against the truth of the log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.schemas import judged_by
from meterfold_processor.fold.subjects import SUBJECT
from meterfold_processor.kafka.reader import TopicReader
from meterfold_processor.verify.contents import Contents
from meterfold_processor.verify.log import Log
from meterfold_processor.verify.report import Finding, Findings
from meterfold_schemas.periods import micros
from meterfold_sink.positions import Span
from meterfold_sink.schema_decisions import read_schema_facts
from support import consume_all
from support.fold.installation import DEADLINE, Installation, headers_of
from support.fold.truth import Truth, stamp_of, subject_of

# Arrow knows no enumeration: both ClickHouse and the published rows give its numbers.
PERIOD_NAMES = {1: "hourly", 2: "daily", 3: "monthly", 4: "lifetime"}
_TEXTS = ("source", "resource_type", "resource_id", "metadata")
_STATE = ("record_count", "sum", "min", "max", "last", "last_timestamp", "last_offset", "folded_through")


def check(installation: Installation, *, records_expire: bool = False, registered: Iterable[bytes] = ()) -> Truth:
    """AssertionError unless tables and topics hold exactly what the log comes to; returns that. Where records expire
    everything is compared but them. `registered`: as for Truth.of."""
    truth = Truth.of(installation.log(), installation.rules, registered)
    if not records_expire:
        _check_records(installation, truth)
    _check_duplicates(installation, truth)
    _check_rejected(installation, truth)
    _check_windows(installation, truth)
    _check_progress(installation, truth)
    return truth


def verify_contents(installation: Installation) -> list[Finding]:
    """What `verify` finds when it compares each row with its message; the checker's topics are not there."""
    findings = Findings(100)
    rules = installation.rules
    reader = TopicReader(installation.kafka, "contents")
    try:
        compared = Contents(
            installation.client,
            Log(installation.kafka, reader),
            Rules.of(rules),
            judged_by(
                read_schema_facts(installation.client), json=rules.reads_json, confluent=rules.reads_registry_ids
            ),
            findings,
            lambda text: None,
        )
        folded = installation.progress().items()
        compared.compare([Span(partition, row.log_start, row.next_offset) for partition, row in folded])
    finally:
        reader.close()
    return list(findings.found)


def same(found: dict[Any, Any], expected: dict[Any, Any], what: str) -> None:
    """Equal, or an AssertionError that shows the first differences of many rows."""
    missing = sorted(expected.keys() - found.keys())
    more = sorted(found.keys() - expected.keys())
    differ = [(key, found[key], expected[key]) for key in expected.keys() & found.keys() if found[key] != expected[key]]
    words = [
        f"{len(rows)} {name}, among them {rows[:3]}"
        for name, rows in (("missing", missing), ("too many", more), ("different (found, expected)", differ))
        if rows
    ]
    assert not words, f"{what}: {'; '.join(words)}"


def _check_records(installation: Installation, truth: Truth) -> None:
    rows = {(row["partition"], row["offset"]): row for row in installation.rows("usage_records")}
    same(dict.fromkeys(rows), dict.fromkeys(truth.counted), "usage_records")
    for position, row in rows.items():
        event = truth.events[position]
        assert _identity(row) == event.identity
        assert (row["quantity"], row["timestamp"]) == (event.quantity, event.timestamp)
        assert [row[name] for name in _TEXTS] == [getattr(event, name) for name in _TEXTS]
        assert micros(row["received_at"]) == stamp_of(truth.messages[position])


def _check_duplicates(installation: Installation, truth: Truth) -> None:
    rows = {(row["partition"], row["offset"]): row for row in installation.rows("usage_duplicates")}
    same({position: row["counted_offset"] for position, row in rows.items()}, truth.duplicates, "usage_duplicates")
    for position, row in rows.items():
        event = truth.events[position]
        assert _identity(row) == event.identity
        assert (row["quantity"], row["timestamp"]) == (event.quantity, event.timestamp)
        assert micros(row["received_at"]) == stamp_of(truth.messages[position])


def _check_rejected(installation: Installation, truth: Truth) -> None:
    rows = installation.rejects()
    same({(row["partition"], row["offset"]): row["reason"] for row in rows}, truth.rejected, "usage_rejected")
    for row in rows:
        message = truth.messages[row["partition"], row["offset"]]
        assert row["value"] == (message.value() or b"")
        assert row["key"] == (message.key() or b"")
        assert micros(row["received_at"]) == stamp_of(message)
        assert tuple(row[name] for name in SUBJECT) == subject_of(message)
        assert row["detail"]
    published = {}
    for copy in installation.published_rejects():
        headers = headers_of(copy)
        position = int(headers["partition"]), int(headers["offset"])
        original = truth.messages[position]
        assert (copy.value(), copy.key()) == (original.value() or b"", original.key())
        assert headers["topic"] == installation.topics.usage_recorded
        assert headers["detail"]
        assert copy.partition() == position[0]
        published[position] = headers["reason"]
    same(published, truth.rejected, "usage.rejected")


def _check_windows(installation: Installation, truth: Truth) -> None:
    expected = {
        (partition, period, start, *subject): (w.count, w.sum, w.min, w.max, w.last[2], w.last[0], w.last[1], w.through)
        for partition, outcome in truth.outcomes.items()
        for (subject, period, start), w in outcome.windows.items()
        if w.last is not None
    }
    rows = installation.rows("usage_windows", "partition")
    same({_window(row): _state(row) for row in rows}, expected, "usage_windows")
    newest: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for row in published_windows(installation):
        key = _window(row)
        assert row["folded_through"] <= expected[key][-1]
        if row["folded_through"] == expected[key][-1]:
            newest[key] = _state(row)
    same(newest, expected, "usage.windows")


def published_windows(installation: Installation) -> list[dict[str, Any]]:
    """The rows of usage.windows in order, each on the partition number of its source."""
    rows = []
    for message in consume_all(installation.kafka, installation.topics.usage_windows, deadline=DEADLINE):
        table = pa.ipc.open_stream(message.value()).read_all()
        assert table.schema == WINDOWS
        assert message.key() is None
        assert set(table["partition"].to_pylist()) == {message.partition()}
        rows += table.to_pylist()
    return rows


def _check_progress(installation: Installation, truth: Truth) -> None:
    rows = installation.progress()
    assert rows.keys() == set(range(installation.partitions))
    for partition, outcome in truth.outcomes.items():
        row = rows[partition]
        sizes = (row.counted, row.duplicates, row.rejected)
        assert sizes == (len(outcome.counted), len(outcome.duplicates), len(outcome.rejected)), row
        offsets = [offset for number, offset in truth.messages if number == partition]
        if offsets:
            last = truth.messages[partition, max(offsets)]
            assert (row.next_offset, row.last_stamp) == (last.offset() + 1, stamp_of(last))
        else:
            assert (row.next_offset, row.last_stamp) == (row.log_start, 0)


def _identity(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in ("org_id", "metric_key", "subject_type", "subject_id", "id"))


def _window(row: dict[str, Any]) -> tuple[Any, ...]:
    subject = (row[name] for name in ("org_id", "metric_key", "subject_type", "subject_id"))
    return (row["partition"], PERIOD_NAMES[row["period_type"]], micros(row["period_start"]), *subject)


def _state(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(micros(row[name]) if name == "last_timestamp" else row[name] for name in _STATE)
