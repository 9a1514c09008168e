"""Subjects as small numbers, and the proof that an event is on its subject's partition.

An event's Kafka key is its subject key, and its partition is murmur2 of that key. Both are checked once, when the key
is seen first; afterwards an event only has to carry the same key and the same four fields. The slot of a subject is
its row in this table and lives as long as the partition's state in memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from meterfold_processor.kafka.murmur import partitions_of
from meterfold_schemas import keys
from meterfold_schemas.keys import subject_key

Int64s = npt.NDArray[np.int64]

SUBJECT = list(keys.SUBJECT)

MISROUTED = -1
"""The slot of an event whose key is not its subject's, or whose partition is not its key's."""

_NEEDS_ESCAPE = r'["\\\x00-\x1f]'
_CHUNKS = 16


class Subjects:
    """The subjects of one partition. Not for several threads at once."""

    def __init__(self, partition: int, partition_count: int) -> None:
        self._partition = partition
        self._partition_count = partition_count
        schema = {"key": pl.Binary, **dict.fromkeys(SUBJECT, pl.String), "slot": pl.Int64}
        self._table = pl.DataFrame(schema=schema)

    def __len__(self) -> int:
        return self._table.height

    def slots(self, events: pl.DataFrame) -> Int64s:
        """The slot of each event (columns `key` and the four of the subject), or MISROUTED.

        A subject seen first gets a slot, if its key and its partition are right.
        """
        slots = self._find(events)
        strange = slots < 0
        if strange.any():
            fresh = events.filter(pl.Series(strange)).select("key", *SUBJECT).unique(maintain_order=True)
            self._add(self._rightly_placed(fresh))
            slots = self._find(events)
        known = np.maximum(slots, 0)
        if len(self._table) == 0:
            return np.full(events.height, MISROUTED, dtype=np.int64)
        same = np.ones(events.height, dtype=np.bool_)
        for name in SUBJECT:
            same &= (self._table[name].gather(known) == events[name]).to_numpy()
        return np.where((slots >= 0) & same, slots, MISROUTED)

    def slots_of_stored(self, stored: pl.DataFrame) -> Int64s:
        """The slots of subjects read from this partition's own windows; new ones are added."""
        keyed = stored.select(subject_keys(stored).alias("key"), *SUBJECT)
        slots = self._find(keyed)
        if (slots < 0).any():
            self._add(keyed.filter(pl.Series(slots < 0)).unique(maintain_order=True))
            slots = self._find(keyed)
        return slots

    def describe(self, slots: Int64s) -> pl.DataFrame:
        """The four columns of each slot."""
        return self._table.select(SUBJECT)[slots]

    def _find(self, events: pl.DataFrame) -> Int64s:
        found = events.select("key").join(
            self._table.select("key", "slot"), on="key", how="left", maintain_order="left"
        )
        return found["slot"].fill_null(MISROUTED).to_numpy()

    def _rightly_placed(self, fresh: pl.DataFrame) -> pl.DataFrame:
        fresh = fresh.filter(pl.col("key").is_not_null())
        fresh = fresh.filter(subject_keys(fresh) == fresh["key"])
        if fresh.is_empty():
            return fresh
        return fresh.filter(pl.Series(partitions_of(fresh["key"], self._partition_count) == self._partition))

    def _add(self, subjects: pl.DataFrame) -> None:
        start = self._table.height
        numbered = subjects.with_columns(slot=pl.int_range(start, start + subjects.height, dtype=pl.Int64))
        self._table = self._table.vstack(numbered)
        if self._table.n_chunks() > _CHUNKS:
            self._table = self._table.rechunk()


def subject_keys(subjects: pl.DataFrame) -> pl.Series:
    """The subject key of each row, as Binary: `meterfold_schemas.keys.subject_key` for a column.

    Few subjects need an escape; those go through the one function that knows how.
    """
    plain = pl.concat_str(
        pl.lit('["'),
        pl.concat_str([pl.col(name) for name in SUBJECT], separator='","'),
        pl.lit('"]'),
    )
    special = pl.any_horizontal(pl.col(name).str.contains(_NEEDS_ESCAPE) for name in SUBJECT)
    answer = subjects.select(key=plain.cast(pl.Binary), special=special)
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
