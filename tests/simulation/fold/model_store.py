"""ClickHouse and the topics as the fold sees them, in dictionaries that check every row they are given.

Rows at a position never change, rows of windows replace each other by `folded_through`, progress by `next_offset`; rows
of equal version must be equal. Nothing here decides anything about an event.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.fold import compact
from meterfold_processor.fold.compact import Piece, Version
from meterfold_processor.fold.duplicates import COUNTED_SCHEMA
from meterfold_processor.fold.flush import CommitOffsets, InsertRows, Operation, PublishRejected, PublishWindows
from meterfold_processor.fold.remembered import Span
from meterfold_processor.fold.store import Progress, Rests
from meterfold_processor.fold.tables import Original
from meterfold_schemas.keys import SUBJECT, Name
from meterfold_schemas.periods import STORED_NUMBER, Period, micros
from meterfold_sink.schema_decisions import Fact, SchemaFacts
from simulation.fold.oracle import EPOCH

Row = dict[str, Any]
WindowKey = tuple[str, int, str, str, str, str]

_PERIODS = {code: period.value for period, code in STORED_NUMBER.items()}
_NO_WINDOWS = pl.DataFrame(pl.from_arrow(WINDOWS.empty_table()))
_NO_RECORDS = pl.DataFrame(schema=COUNTED_SCHEMA)
_NO_RESTS = np.empty(0, np.uint32)
_BY_POSITION = {"usage_records": "records", "usage_duplicates": "duplicates", "usage_rejected": "rejected"}


@dataclass(frozen=True)
class StoredPiece:
    """A row of `identity_tables`."""

    piece: Piece
    checksum: int
    rests_checksum: int


@dataclass
class Tables:
    """The rows of one partition; the part that a restore brings back."""

    records: dict[int, Row] = field(default_factory=dict)
    duplicates: dict[int, Row] = field(default_factory=dict)
    rejected: dict[int, Row] = field(default_factory=dict)
    windows: dict[WindowKey, Row] = field(default_factory=dict)
    progress: Progress | None = None
    pieces: dict[tuple[Version, int], StoredPiece] = field(default_factory=dict)

    def copy(self) -> Tables:
        return Tables(
            dict(self.records),
            dict(self.duplicates),
            dict(self.rejected),
            dict(self.windows),
            self.progress,
            dict(self.pieces),
        )


@dataclass(frozen=True)
class Stored:
    """A row of `schema_decisions`: stamped at one tick, to be seen only some ticks later."""

    fact: Fact
    value: str
    stamp: int
    visible: int


class ModelStore:
    """`now` rows, and what was ever said about a version of a row. What was decided about schemas is not restored with
    the tables: an operator records it again before workers start."""

    def __init__(self) -> None:
        self.now = Tables()
        self.decisions: dict[bytes, list[Stored]] = {}
        self.expired: dict[int, Row] = {}
        self.published: set[tuple[WindowKey, int]] = set()
        self.originals: dict[int, Original] = {}
        self.committed: int | None = None
        self._versions: dict[tuple[WindowKey, int], Row] = {}
        self._positions: dict[tuple[str, int], Row] = {}

    def apply(self, operation: Operation, keep: npt.NDArray[np.bool_] | None = None) -> None:
        """Perform an operation of a flush; `keep` picks the rows, or messages, that get through."""
        match operation:
            case InsertRows(table=table, rows=rows):
                self._insert(table, rows if keep is None else rows.filter(pa.array(keep)))
            case PublishWindows(messages=messages):
                for number, (_, data) in enumerate(messages):
                    if keep is None or keep[number]:
                        self._publish(data)
            case PublishRejected(originals=originals):
                for number, original in enumerate(originals):
                    if keep is None or keep[number]:
                        known = self.originals.setdefault(original.offset, original)
                        assert known == original, f"usage.rejected: {known} and {original}"
            case CommitOffsets(offsets=offsets):
                self.committed = next(iter(offsets.values()))

    @staticmethod
    def size_of(operation: Operation) -> int:
        match operation:
            case InsertRows(rows=rows):
                return int(rows.num_rows)
            case PublishWindows(messages=messages):
                return len(messages)
            case PublishRejected(originals=originals):
                return len(originals)
            case CommitOffsets():
                return 1

    def _insert(self, table: str, rows: pa.Table) -> None:
        if table == "fold_progress":
            for row in rows.to_pylist():
                self._advance(row)
        elif table == "usage_windows":
            for row in rows.to_pylist():
                self._replace_window(row)
        else:
            target: dict[int, Row] = getattr(self.now, _BY_POSITION[table])
            for row in rows.to_pylist():
                offset = row["offset"]
                known = self._positions.setdefault((table, offset), row)
                assert known == row, f"{table} at offset {offset} is {known} and {row}"
                if not (table == "usage_records" and offset in self.expired):
                    target[offset] = row

    def _replace_window(self, row: Row) -> None:
        key = self._check_version(row)
        old = self.now.windows.get(key)
        if old is None or row["folded_through"] > old["folded_through"]:
            self.now.windows[key] = row

    def _check_version(self, row: Row) -> WindowKey:
        key = window_key(row)
        through = row["folded_through"]
        known = self._versions.setdefault((key, through), row)
        assert known == row, f"window {key} folded through {through} is {known} and {row}"
        return key

    def _publish(self, data: bytes) -> None:
        for row in pa.ipc.open_stream(data).read_all().to_pylist():
            key = self._check_version(row)
            stored = self.now.windows.get(key)
            through = row["folded_through"]
            assert stored is not None, f"window {key} was published before it was stored"
            assert stored["folded_through"] >= through, f"window {key} was published at {through} before it was stored"
            self.published.add((key, through))

    def _advance(self, row: Row) -> None:
        stamp = micros(row.pop("last_stamp"))
        progress = Progress(**row, last_stamp=stamp or None)
        old = self.now.progress
        if old is None or progress.next_offset > old.next_offset:
            self.now.progress = progress
        elif progress.next_offset == old.next_offset:
            assert progress == old, f"progress at {old.next_offset} is {old} and {progress}"

    def write_fact(self, fingerprint: bytes, fact: Fact, value: str, tick: int, delay: int) -> None:
        """Insert a row at a tick; it is seen `delay` ticks later."""
        self.decisions.setdefault(fingerprint, []).append(Stored(fact, value, tick, tick + delay))

    def schema_facts(self, tick: int) -> dict[bytes, SchemaFacts]:
        """What is seen at a tick: of each kind the row with the earliest stamp. Ages in ticks."""
        found = {}
        for fingerprint, rows in self.decisions.items():
            first: dict[str, Stored] = {}
            for row in sorted(rows, key=lambda row: row.stamp):
                if row.visible <= tick:
                    first.setdefault(row.fact, row)
            seen, decision = first.get("seen"), first.get("decision")
            found[fingerprint] = SchemaFacts(
                seen_at=None if seen is None else EPOCH,
                seen_age=0.0 if seen is None else float(tick - seen.stamp),
                waits="wait" in first,
                decision=None if decision is None else decision.value,
                decision_age=0.0 if decision is None else float(tick - decision.stamp),
            )
        return found

    def expire_before(self, stamp: int) -> None:
        """The time to live of usage_records."""
        for offset, row in list(self.now.records.items()):
            if micros(row["received_at"]) < stamp:
                self.expired[offset] = self.now.records.pop(offset)

    def load_identities(self, span: Span, from_offset: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Hashes and stamps (UTC microseconds) of the records that arrived in the span."""
        found = [(row["identity_hash"], micros(row["received_at"])) for row in self._arrived(span, from_offset)]
        return np.array([h for h, _ in found], np.uint64), np.array([stamp for _, stamp in found], np.int64)

    def load_hashes(self, span: Span, lowest: int, highest: int) -> npt.NDArray[np.uint64]:
        hashes = [row["identity_hash"] for row in self._arrived(span)]
        return np.array([h for h in hashes if lowest <= h <= highest], np.uint64)

    def count_records(self, span: Span) -> int:
        return len(self._arrived(span))

    def _arrived(self, span: Span, from_offset: int = 0) -> list[Row]:
        return [
            row
            for offset, row in self.now.records.items()
            if span[0] <= micros(row["received_at"]) < span[1] and offset >= from_offset
        ]

    def find_records(self, hashes: npt.NDArray[np.uint64], spans: list[Span]) -> pl.DataFrame:
        wanted = set(hashes.tolist())
        found = {
            row["offset"]: {**row, "stamp": micros(row["received_at"]), "hash": row["identity_hash"]}
            for span in spans
            for row in self._arrived(span)
            if row["identity_hash"] in wanted
        }
        if not found:
            return _NO_RECORDS
        rows = [{name: row[name] for name in COUNTED_SCHEMA} for row in found.values()]
        return pl.DataFrame(rows, schema=COUNTED_SCHEMA)

    def table_versions(self) -> list[Version]:
        numbers: dict[Version, int] = {}
        for version, _ in self.now.pieces:
            numbers[version] = numbers.get(version, 0) + 1
        return [version for version, size in numbers.items() if size == compact.piece_count(version.bits)]

    def load_pieces(self, version: Version, first: int, end: int) -> list[tuple[Piece, int]]:
        found = [self.now.pieces.get((version, number)) for number in range(first, end)]
        return [
            (Piece(one.piece.number, one.piece.counts, one.piece.remainders, _NO_RESTS), one.checksum)
            for one in found
            if one is not None
        ]

    def load_rests(self, wanted: list[tuple[Version, int]]) -> list[Rests]:
        return [
            Rests(*key, self.now.pieces[key].piece.rests, self.now.pieces[key].rests_checksum)
            for key in wanted
            if key in self.now.pieces
        ]

    def save_pieces(self, version: Version, pieces: list[Piece]) -> None:
        for piece in pieces:
            stored = StoredPiece(piece, piece.checksum(version.bits), zlib.crc32(piece.rests.tobytes()))
            self.now.pieces[version, piece.number] = stored

    def damage_pieces(self, rng: random.Random) -> None:
        """Some pieces are lost, and bits of others flip."""
        for key in list(self.now.pieces):
            fate = rng.choice(["lost", "flipped", "rests flipped", "sound", "sound", "sound"])
            if fate == "lost":
                del self.now.pieces[key]
                continue
            stored = self.now.pieces[key]
            piece = stored.piece
            if fate == "flipped" and len(piece.remainders):
                piece = replace(piece, remainders=piece.remainders ^ np.uint16(1))
            elif fate == "flipped":
                piece = replace(piece, counts=piece.counts[:-1])
            elif fate == "rests flipped":
                piece = replace(piece, rests=piece.rests ^ np.uint32(1))
            self.now.pieces[key] = replace(stored, piece=piece)

    def load_windows(self, period: Period, starts: npt.NDArray[np.int64]) -> pl.DataFrame:
        wanted = set(starts.tolist())
        found = [row for key, row in self.now.windows.items() if key[0] == period.value and key[1] in wanted]
        if not found:
            return _NO_WINDOWS
        return pl.DataFrame(pl.from_arrow(pa.Table.from_pylist(found, schema=WINDOWS)))

    def count_windows(self, period: Period, starts: list[int]) -> dict[int, int]:
        counts = Counter(key[1] for key in self.now.windows if key[0] == period.value)
        return {start: counts[start] for start in starts if counts[start]}

    def names_apart(self, period: Period, start: int, size: int) -> list[Name]:
        return sorted(key[2:] for key in self.now.windows if key[:2] == (period.value, start))[::size]

    def load_part(self, period: Period, start: int, low: Name, high: Name | None) -> pl.DataFrame:
        found = [
            row
            for key, row in self.now.windows.items()
            if key[:2] == (period.value, start) and low <= key[2:] and (high is None or key[2:] < high)
        ]
        if not found:
            return _NO_WINDOWS
        return pl.DataFrame(pl.from_arrow(pa.Table.from_pylist(found, schema=WINDOWS)))

    def find_windows(self, period: Period, wanted: pl.DataFrame, low: Name) -> pl.DataFrame:
        """What is wanted, and beside it everything that another hash function would take for it."""
        keys = {(period.value, *row) for row in wanted.select("start", *SUBJECT).iter_rows()}
        assert all(low <= key[2:] for key in keys)
        similar = {_similar(key) for key in keys}
        found = [row for key, row in self.now.windows.items() if key in keys or _similar(key) in similar]
        found = [row for row in found if _PERIODS[row["period_type"]] == period.value]
        if not found:
            return _NO_WINDOWS
        return pl.DataFrame(pl.from_arrow(pa.Table.from_pylist(found, schema=WINDOWS)))


def _similar(key: WindowKey) -> int:
    return zlib.crc32(repr(key).encode()) % 3


def window_key(row: Row) -> WindowKey:
    return (
        _PERIODS[row["period_type"]],
        micros(row["period_start"]),
        row["org_id"],
        row["metric_key"],
        row["subject_type"],
        row["subject_id"],
    )
