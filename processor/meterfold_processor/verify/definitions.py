"""The tables of definitions against their topics, which are the truth.

The topics are read first, so a row may be newer than what was read of them: such a row is on its way, and not compared.
A row that is older, or not there, is a difference only where the mirror has passed its message. Deletions: the row
stays for ever, marked; the tombstone on the topic may be gone by compaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from meterfold_processor.checker.mirror_rows import TABLES, row_of
from meterfold_processor.kafka.offsets import Place, topic_bounds
from meterfold_processor.kafka.reader import TopicReader
from meterfold_processor.verify.report import Finding, Findings, Unproven
from meterfold_schemas.errors import Poison, UnknownSchema
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import Client
from meterfold_sink.mirrored import mirrored_definitions
from meterfold_sink.reads import read_mirrored

__all__ = ["DefinitionTables", "TopicRows", "compare_rows"]

_LOOK_SECONDS: Final = 0.1
_NAMES: Final = {"metric_definitions": ("org_id", "key"), "thresholds": ("id",)}
#: What a deletion says: nothing but the name.
_OF_DELETION: Final = ("version", "deleted")

Rows = dict[tuple[str, ...], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class TopicRows:
    """What one topic says: the newest row of each name, and the next offset behind what was read."""

    rows: Mapping[tuple[str, ...], Mapping[str, Any]]
    end: int


class DefinitionTables:
    """For one thread. `compare` raises Retryable or Fatal."""

    def __init__(
        self,
        kafka: KafkaSettings,
        client: Client,
        reader: TopicReader,
        patience: float,
        findings: Findings,
    ) -> None:
        topics = Topics(kafka.topic_prefix)
        self._tables = {"metric_definitions": topics.metric_defined, "thresholds": topics.threshold_defined}
        self._kafka, self._client, self._reader = kafka, client, reader
        self._patience, self._findings = patience, findings

    def compare(self) -> int:
        """How many definitions the topics and tables hold."""
        bounds = topic_bounds(self._kafka, dict.fromkeys(self._tables.values(), 1))
        return sum(self._compare(table, topic, *bounds) for table, topic in self._tables.items())

    def _compare(self, table: str, topic: str, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> int:
        said = self._read(table, Place(topic, 0), starts, ends)
        place, begun = Place(topic, 0), time.monotonic()
        while True:
            # The position first: what it has passed was inserted before.
            mirrored = read_mirrored(self._client).get(place, 0)
            rows = self._stored(table)
            findings, waiting = compare_rows(table, said, rows, mirrored)
            if not waiting or time.monotonic() - begun >= self._patience:
                break
            time.sleep(_LOOK_SECONDS)
        self._findings.extend(findings)
        if waiting:
            why = f"{waiting} definitions of {topic} are not in the table yet: the checker's mirror is behind them"
            self._findings.cannot(Unproven(check="definitions", place=table, passing=True, why=why))
        return len(said.rows.keys() | rows.keys())

    def _read(self, table: str, place: Place, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> TopicRows:
        found: dict[tuple[str, ...], Mapping[str, Any]] = {}
        for batch in self._reader.scan({place: starts[place]}, {place: ends[place]}):
            for message in batch:
                try:
                    row = row_of(table, message.key() or b"", message.value(), message.offset() or 0)
                except (Poison, UnknownSchema, json.JSONDecodeError, UnicodeDecodeError):
                    continue  # the checker leaves it out as well
                if row is not None:
                    found[_name(table, row)] = row
        return TopicRows(found, ends[place])

    def _stored(self, table: str) -> Rows:
        found: Rows = {}
        for row in mirrored_definitions(self._client, table, TABLES[table].names):
            found.setdefault(_name(table, row), []).append(row)
        return found


def compare_rows(table: str, said: TopicRows, rows: Rows, mirrored: int) -> tuple[list[Finding], int]:
    """What differs, and how many definitions the mirror (at the offset `mirrored`) may still bring. Pure."""
    findings, waiting = [], 0
    for name, expected in said.rows.items():
        found = rows.get(name, [])
        if len(found) > 1:
            findings.append(_finding(table, name, "rows of one definition", "one row", f"{len(found)} rows"))
            continue
        version = int(found[0]["version"]) if found else -1
        if version >= said.end:
            continue  # defined again meanwhile
        if version < expected["version"] and mirrored <= expected["version"]:
            waiting += 1
        elif not found:
            findings.append(_finding(table, name, _against(expected), "one row", "none"))
        else:
            columns = _OF_DELETION if expected["deleted"] else tuple(expected)
            wrong = [column for column in columns if expected[column] != found[0][column]]
            if wrong:
                findings.append(
                    _finding(table, name, _against(expected), _shown(expected, wrong), _shown(found[0], wrong))
                )
    for name in rows.keys() - said.rows.keys():
        found = [row for row in rows[name] if not row["deleted"] and row["version"] < said.end]
        if found:
            findings.append(_finding(table, name, "row of a definition that is not on its topic", "no row", "one row"))
    return findings, waiting


def _name(table: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[column]) for column in _NAMES[table])


def _against(expected: Mapping[str, Any]) -> str:
    return f"row, against the message at offset {expected['version']} of its topic"


def _shown(row: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {row[name]!r}" for name in names)


def _finding(table: str, name: tuple[str, ...], what: str, expected: str, found: str) -> Finding:
    kind = "metric" if table == "metric_definitions" else "threshold"
    shown = " of organization ".join(repr(part) for part in reversed(name) if part)
    return Finding(check="definitions", place=table, name=f"{kind} {shown}", what=what, expected=expected, found=found)
