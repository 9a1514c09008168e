"""The subjects of one partition that have windows in memory, and the proof that an event is on its subject's partition.

An event's Kafka key is its subject key, and its partition is murmur2 of that key. A batch is grouped by its keys first;
what is said about a key holds for every event that has the same key and the same four fields. The slot of a subject is
its row here. It lives as long as a window of the subject is in memory, and is then given to another one.

Memory: 24 bytes per subject and its key, padded to whole words.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from meterfold_processor.columns.distinct import distinct
from meterfold_processor.columns.row_index import NONE, RowIndex
from meterfold_processor.columns.rows import Rows
from meterfold_processor.fold.subject_keys import KeyStore, PackedKeys
from meterfold_processor.kafka.murmur import partitions_of
from meterfold_schemas import keys
from meterfold_schemas.keys import subject_key

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
RowNumbers = npt.NDArray[np.intp]

SUBJECT = list(keys.SUBJECT)

MISROUTED = -1
"""In place of the subject of an event whose key is not its subject's, or whose partition is not its key's."""

_PLAIN_KEY = pl.concat_str(
    pl.lit('["'), pl.concat_str([pl.col(name) for name in SUBJECT], separator='","'), pl.lit('"]')
).cast(pl.Binary)
_QUOTE, _BACKSLASH, _FIRST_PLAIN = b'"'[0], b"\\"[0], b" "[0]
_NEEDS_ESCAPE = r'["\\\x00-\x1f]'
_SEED = int.from_bytes(os.urandom(8))
"""Of the hashes of keys, so that a producer cannot choose subjects whose hashes are equal; no result depends on it."""
_HASH_AND_START, _LENGTH_AND_WINDOWS = 0, 1
_FREE = -1
"""In place of the windows of a row that is not in use."""
_HALF = np.uint64(32)
_LOWER_HALF = np.uint64(0xFFFF_FFFF)


@dataclass(frozen=True, slots=True)
class Placed:
    """The subjects of one batch: `names` has `key` and the four columns of each, `slots` their slots, which hold until
    the next batch is placed unless a window holds them. `subject` is the row of each event in both, or MISROUTED."""

    subject: Int64s
    names: pl.DataFrame
    slots: Int64s


class Subjects:
    """Not for several threads at once."""

    def __init__(self, partition: int, partition_count: int) -> None:
        self._partition = partition
        self._partition_count = partition_count
        self._rows = Rows(2)
        self._index = RowIndex(lambda rows: self._rows.read_column(_HASH_AND_START, rows).view(np.uint64) >> _HALF)
        self._keys = KeyStore()
        self._unheld: list[RowNumbers] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        return self._rows.nbytes + self._index.nbytes + self._keys.nbytes

    def place(self, events: pl.DataFrame) -> Placed:
        """The subject of each event (columns `key` and the four of the subject).

        A subject that is not in memory gets a slot, if its key and its partition are right.
        """
        if self._unheld:
            rows = np.concatenate(self._unheld)
            self._forget(rows[self._windows(rows) == 0])
            self._unheld = []
        subject, names = _distinct(events.select("key", *SUBJECT))
        right = _are_right(names)
        if not right.all():
            subject = np.where(right, np.cumsum(right) - 1, MISROUTED)[subject]
            names = names.filter(pl.Series(right))
        slots = self._slots(names, check=True)
        if (slots == MISROUTED).any():
            subject = np.where(slots[subject] == MISROUTED, MISROUTED, subject)
        return Placed(subject, names, slots)

    def slots_of_stored(self, stored: pl.DataFrame, *, once: bool) -> Int64s:
        """The slots of subjects read from this partition's own windows; new ones are added. `once`: no subject is there
        twice."""
        names = stored.select(subject_keys(stored).alias("key"), *SUBJECT)
        if once:
            return self._slots(names, check=False)
        subject, names = _distinct(names)
        return self._slots(names, check=False)[subject]

    def hold(self, slots: Int64s) -> None:
        """Count one more window in memory for each entry of `slots`, which may repeat."""
        self._rows.add_to_column(_LENGTH_AND_WINDOWS, slots, 1)

    def release(self, slots: Int64s) -> None:
        """Count one less for each entry; a subject without windows is forgotten."""
        self._rows.add_to_column(_LENGTH_AND_WINDOWS, slots, -1)
        self._forget(distinct(slots[self._windows(slots) == 0]))

    def _slots(self, names: pl.DataFrame, *, check: bool) -> Int64s:
        """The slots of distinct subjects with their right keys; MISROUTED where `check` finds another partition."""
        if names.is_empty():
            return np.empty(0, dtype=np.int64)
        packed = PackedKeys.of(names["key"])
        hashes = names["key"].hash(_SEED).to_numpy() >> _HALF

        def same(rows: RowNumbers, which: RowNumbers) -> Bools:
            cells = self._rows.read(rows).view(np.uint64)
            found: Bools = cells[:, _HASH_AND_START] >> _HALF == hashes[which]
            found &= cells[:, _LENGTH_AND_WINDOWS] >> _HALF == packed.lengths[which].view(np.uint64)
            alike = np.flatnonzero(found)
            starts = (cells[alike, _HASH_AND_START] & _LOWER_HALF).view(np.int64)
            found[alike] = self._keys.same(starts, packed, which[alike])
            return found

        slots = self._index.find(hashes, same)
        fresh = np.flatnonzero(slots == NONE)
        if check and len(fresh):
            fresh = fresh[self._belong_here(names["key"][fresh])]
        if len(fresh):
            slots[fresh] = self._add(hashes, packed, fresh)
        return slots

    def _belong_here(self, keys: pl.Series) -> Bools:
        found: Bools = partitions_of(keys, self._partition_count) == self._partition
        return found

    def _add(self, hashes: UInt64s, packed: PackedKeys, which: RowNumbers) -> RowNumbers:
        rows = self._rows.take(len(which))
        cells = np.empty((len(which), 2), dtype=np.uint64)
        cells[:, _HASH_AND_START] = hashes[which] << _HALF | self._keys.add(packed, which).view(np.uint64)
        cells[:, _LENGTH_AND_WINDOWS] = packed.lengths[which].view(np.uint64) << _HALF
        self._rows.write(rows, cells.view(np.int64))
        self._index.insert(hashes[which], rows)
        self._unheld.append(rows)
        return rows

    def _forget(self, rows: RowNumbers) -> None:
        if len(rows) == 0:
            return
        cells = self._rows.read(rows).view(np.uint64)
        self._index.remove(cells[:, _HASH_AND_START] >> _HALF, rows)
        starts, lengths = cells[:, _HASH_AND_START] & _LOWER_HALF, cells[:, _LENGTH_AND_WINDOWS] >> _HALF
        self._keys.free(starts.view(np.int64), lengths.view(np.int64))
        self._rows.write_column(_LENGTH_AND_WINDOWS, rows, _FREE)
        self._rows.give_back(rows)

    def _windows(self, rows: RowNumbers) -> Int64s:
        return self._rows.read_column(_LENGTH_AND_WINDOWS, rows) & np.int64(_LOWER_HALF)


def _distinct(events: pl.DataFrame) -> tuple[Int64s, pl.DataFrame]:
    """The distinct rows, and which of them each row is.

    The events are grouped by the hash of their keys. Those that differ from the first of their group, since hashes are
    equal or a producer's keys are wrong, are few, and are compared by all columns.
    """
    if events.is_empty():
        return np.empty(0, dtype=np.int64), events
    hashes = events["key"].hash(_SEED).to_numpy()
    order = np.argsort(hashes)
    rising = hashes[order]
    is_first = np.append(True, rising[1:] != rising[:-1])
    if is_first.all():
        return np.arange(events.height), events
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.cumsum(is_first) - 1
    names = events[order[is_first]]
    same = np.ones(len(order), dtype=np.bool_)
    for name in events.columns:
        same &= names[name].gather(number).eq_missing(events[name]).to_numpy()
    if not same.all():
        others = events.filter(pl.Series(~same))
        distinct = others.unique(maintain_order=True).with_row_index("number", offset=names.height)
        found = others.join(distinct, on=events.columns, how="left", nulls_equal=True, maintain_order="left")
        number[~same] = found["number"].to_numpy()
        names = names.vstack(distinct.drop("number"))
    return number, names


def _are_right(names: pl.DataFrame) -> Bools:
    """Whether each key is that of its subject."""
    if _are_plain(names["key"]):
        right = _equal(names.select(_PLAIN_KEY).to_series(), names["key"])
        if right.all():
            return right
    return _equal(subject_keys(names), names["key"])


def _are_plain(keys: pl.Series) -> bool:
    """Whether there is nothing to escape in any of them, if they are as they would be without escapes.

    With two quotation marks for each name on average none of them is within a name, since no key has less. So nearly
    every batch is judged without a look at the names.
    """
    column: Any = keys.to_arrow(compat_level=pl.CompatLevel.oldest())
    text = np.frombuffer(column.buffers()[2] or b"", dtype=np.uint8)
    quotes = np.count_nonzero(text == _QUOTE)
    escapes = np.count_nonzero(text < _FIRST_PLAIN) + np.count_nonzero(text == _BACKSLASH)
    return not escapes and quotes == 2 * len(SUBJECT) * len(keys)


def _equal(one: pl.Series, other: pl.Series) -> Bools:
    same: Bools = (one == other).fill_null(value=False).to_numpy()
    return same


def subject_keys(subjects: pl.DataFrame) -> pl.Series:
    """The subject key of each row, as Binary: `meterfold_schemas.keys.subject_key` for a column.

    Few subjects need an escape; those go through the one function that knows how.
    """
    plain = subjects.select(_PLAIN_KEY).to_series()
    if _are_plain(plain):
        return plain
    special = pl.any_horizontal(pl.col(name).str.contains(_NEEDS_ESCAPE) for name in SUBJECT)
    answer = subjects.select(key=_PLAIN_KEY, special=special)
    rows = answer["special"].arg_true()
    keys = answer["key"]
    if len(rows):
        escaped = [subject_key(*row) for row in subjects.select(SUBJECT)[rows].iter_rows()]
        keys = _replaced(keys, rows, escaped)
    return keys


def _replaced(keys: pl.Series, rows: pl.Series, values: list[bytes]) -> pl.Series:
    changed = pl.DataFrame({"row": rows, "value": pl.Series(values, dtype=pl.Binary)})
    frame = pl.DataFrame({"key": keys}).with_row_index("row")
    joined = frame.join(changed, on="row", how="left", maintain_order="left")
    return joined.select(pl.coalesce("value", "key").alias("key"))["key"]
