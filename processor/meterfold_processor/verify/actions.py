"""The table of actions on alerts against its topic alert.acted: of several with one alert and action, the first counts.

The topic is read first, so a row may be newer than what was read of it: it is not compared. A row that is not there is
a difference only where the mirror has passed its message, and a row that is older than the log cannot be proven.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from meterfold_processor.checker.mirror_rows import row_of
from meterfold_processor.kafka.offsets import Place, topic_bounds
from meterfold_processor.kafka.reader import TopicReader
from meterfold_processor.verify.report import Finding, Findings, Unproven
from meterfold_schemas.errors import Poison, UnknownSchema
from meterfold_schemas.plurals import plural
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import Client
from meterfold_sink.mirrored import mirrored_actions
from meterfold_sink.reads import read_mirrored

__all__ = ["ActionLog", "compare_actions", "prove_actions"]

TABLE: Final = "alert_actions"
_ACTIONS: Final = {1: "acknowledge", 2: "resolve"}
_LOOK_SECONDS: Final = 0.1

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ActionLog:
    """What the topic says between the offsets start and end: the first row of each (alert id, action)."""

    rows: Mapping[tuple[str, int], Row]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ComparedActions:
    """`waiting`: how many rows the mirror may still bring; `expired`: how many rows are older than the log."""

    findings: list[Finding]
    waiting: int
    expired: int


def prove_actions(
    kafka: KafkaSettings, client: Client, reader: TopicReader, patience: float, findings: Findings
) -> int:
    """How many actions the topic and the table hold. `patience`: how long the mirror may need, in seconds. Raises
    Retryable or Fatal."""
    topic = Topics(kafka.topic_prefix).alert_acted
    place = Place(topic, 0)
    starts, ends = topic_bounds(kafka, {topic: 1})
    first: dict[tuple[str, int], Row] = {}
    for batch in reader.scan({place: starts[place]}, {place: ends[place]}):
        for message in batch:
            try:
                row = row_of(TABLE, message.key() or b"", message.value(), message.offset() or 0)
            except (Poison, UnknownSchema):
                continue  # the checker leaves it out as well
            if row is not None:
                first.setdefault(_name(row), row)
    log, begun = ActionLog(first, starts[place], ends[place]), time.monotonic()
    while True:
        # The position first: what it has passed was inserted before.
        mirrored = read_mirrored(client).get(place, 0)
        stored = list(mirrored_actions(client))
        compared = compare_actions(log, stored, mirrored)
        if not compared.waiting or time.monotonic() - begun >= patience:
            break
        time.sleep(_LOOK_SECONDS)
    findings.extend(compared.findings)
    if compared.waiting:
        why = f"{plural(compared.waiting, 'action')} of {topic} not in the table yet: the checker's mirror is behind"
        findings.cannot(Unproven(check="actions", place=TABLE, passing=True, why=why))
    if compared.expired:
        why = f"{plural(compared.expired, 'action')} older than what {topic} still holds"
        findings.cannot(Unproven(check="actions", place=TABLE, passing=False, why=why))
    return len(log.rows.keys() | {_name(row) for row in stored})


def compare_actions(log: ActionLog, stored: Iterable[Row], mirrored: int) -> ComparedActions:
    """Compare rows with the log; the mirror is at the offset `mirrored`. Pure."""
    findings, waiting, expired = list[Finding](), 0, 0
    rows: dict[tuple[str, int], list[Row]] = {}
    for row in stored:
        rows.setdefault(_name(row), []).append(row)
    for name in sorted(log.rows.keys() | rows.keys()):
        expected, found = log.rows.get(name), rows.get(name, [])
        if len(found) > 1:
            findings.append(_finding(name, "rows of one action", "one row", f"{len(found)} rows"))
        elif found and 0 <= _offset(found[0]) < log.start:
            expired += 1
        elif expected is None:
            if _offset(found[0]) < log.end:
                findings.append(_finding(name, "row of an action that is not on its topic", "no row", "one row"))
        elif not found:
            if mirrored <= _offset(expected):
                waiting += 1
            else:
                findings.append(_finding(name, _against(expected), "one row", "none"))
        elif wrong := [column for column in expected if expected[column] != found[0][column]]:
            findings.append(_finding(name, _against(expected), _shown(expected, wrong), _shown(found[0], wrong)))
    return ComparedActions(findings, waiting, expired)


def _name(row: Row) -> tuple[str, int]:
    return str(row["alert_id"]), int(row["action"])


def _offset(row: Row) -> int:
    return -int(row["earlier"])


def _against(expected: Row) -> str:
    return f"row, against the message at offset {_offset(expected)} of its topic"


def _shown(row: Row, columns: list[str]) -> str:
    return ", ".join(f"offset {_offset(row)}" if name == "earlier" else f"{name} {row[name]!r}" for name in columns)


def _finding(name: tuple[str, int], what: str, expected: str, found: str) -> Finding:
    alert_id, action = name
    shown = f"{_ACTIONS.get(action, action)} of alert {alert_id}"
    return Finding(check="actions", place=TABLE, name=shown, what=what, expected=expected, found=found)
