"""Which windows of usage.aggregated need a second look: everything by column, no event is an object here.

The rules are those of `Emissions` in aggregates.py, which names what is wrong about each suspect; it looks at nothing
else. A window that is not suspected satisfies all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import polars as pl
import pyarrow as pa
from confluent_kafka import Message

from meterfold_processor.columns.avro_blocks import read_block
from meterfold_processor.verify.timerange import TimeRange
from meterfold_schemas import catalog
from meterfold_schemas.catalog import MAGIC
from meterfold_schemas.framing import HEADER_SIZE

__all__ = ["EmissionSuspects"]

NAME: Final = "usage_aggregated"
_SUBJECT: Final = ("org_id", "metric_key", "subject_type", "subject_id")
_WINDOW: Final = (*_SUBJECT, "period_type", "period_start")
_VALUES: Final = ("sum", "min", "max", "last")
_DECIMAL: Final = pl.Decimal(38, 9)
_SCHEMA: Final = {
    "key": pl.Binary(),
    "offset": pl.Int64(),
    **dict.fromkeys((*_SUBJECT, "period_type"), pl.String()),
    "period_start": pl.Int64(),
    "record_count": pl.Int64(),
    **dict.fromkeys(_VALUES, _DECIMAL),
    "revision": pl.Int64(),
    "is_final": pl.Boolean(),
}
_LENGTHS: Final = {"hourly": "1h", "daily": "1d", "monthly": "1mo"}
#: Text that a key shows as it is; any other is escaped.
_PLAIN: Final = r'^[^"\\\x00-\x1f]*$'
_TOGETHER: Final = 500_000


class EmissionSuspects:
    """One partition of the topic. About 200 bytes for each window, and for as many events or `together`."""

    def __init__(self, within: TimeRange | None = None, *, together: int = _TOGETHER) -> None:
        self.events = 0
        self.keys: set[bytes] = set()
        """Of the suspects."""
        self._within = within
        self._together = together
        self._frames: list[pl.DataFrame] = []
        self._held = 0
        """Events in the frames."""
        self._last = pl.DataFrame(schema=_SCHEMA)
        """Of each window the last event before those."""
        self._newest = pl.DataFrame(schema=_SCHEMA)

    def take(self, messages: Sequence[Message]) -> None:
        """In order."""
        keys, values = [m.key() or b"" for m in messages], [m.value() for m in messages]
        offsets = pl.Series([m.offset() or 0 for m in messages], dtype=pl.Int64)
        by_header: dict[bytes, list[int]] = {}
        for row, value in enumerate(values):
            by_header.setdefault(b"" if value is None else value[:HEADER_SIZE], []).append(row)
        schemas = {MAGIC + fingerprint: schema for fingerprint, schema in catalog.fingerprints_of(NAME).items()}
        for header, rows in by_header.items():
            place = pl.DataFrame({"key": pl.Series([keys[row] for row in rows], dtype=pl.Binary)})
            place = place.with_columns(offsets.gather(rows).alias("offset"))
            schema = schemas.get(header)
            if not header and all(values[row] is None for row in rows):
                # A tombstone: the window is past remembering.
                self._hold(pl.concat([place, pl.DataFrame(schema=_SCHEMA)], how="diagonal"))
                continue
            events = None if schema is None else read_block(schema, header, [values[row] or b"" for row in rows])
            if events is None:
                self.keys.update(keys[row] for row in rows)
                continue
            body = events.select(
                *_SUBJECT,
                pl.col("period_type").cast(pl.String),
                pl.col("period_start").dt.epoch("us"),
                "record_count",
                *(pl.col(name).cast(_DECIMAL) for name in _VALUES),
                "revision",
                "is_final",
            )
            self._hold(self._of_range(pl.concat([place, body], how="horizontal")))
        if self._held >= max(self._together, self._last.height):
            self._look_at_held()

    def close(self) -> None:
        """After the last message."""
        self._look_at_held()
        self._newest = self._last.with_row_index("row")

    def _hold(self, frame: pl.DataFrame) -> None:
        self._frames.append(frame)
        self._held += frame.height
        self.events += frame["revision"].count()

    def _look_at_held(self) -> None:
        """What events say about each other; of each window the last one is kept."""
        frame = pl.concat([self._last, *self._frames]).sort("key", "offset")
        self._frames, self._held = [], 0
        same, revision, final = pl.col("key") == pl.col("key").shift(), pl.col("revision"), pl.col("is_final")
        before, was_final = revision.shift(), final.shift()
        # Comparisons with a tombstone are null, which is not wrong.
        not_after = (revision < before) | ((revision == before) & (final <= was_final)) | (was_final & ~final)
        wrong = (same & not_after).fill_null(False) | (revision.is_not_null() & (_key() != pl.col("key")))
        self.keys.update(frame.filter(wrong.fill_null(False))["key"].to_list())
        unplain = pl.any_horizontal(~pl.col(name).str.contains(_PLAIN) for name in (*_SUBJECT, "period_type"))
        self.keys.update(frame.filter(unplain)["key"].to_list())
        # A tombstone is kept no more than the events before it: what follows it is compared with nothing.
        is_last = (pl.col("key") != pl.col("key").shift(-1)).fill_null(True)
        self._last = frame.filter(is_last & revision.is_not_null())

    @property
    def is_empty(self) -> bool:
        """Whether no window is left to compare."""
        return not self._newest.height

    @property
    def period_types(self) -> set[str]:
        return set(self._newest["period_type"].unique())

    @property
    def earliest(self) -> int:
        """The first start of a window, UTC microseconds."""
        found = self._newest["period_start"].min()
        return found if isinstance(found, int) else 0

    def compare(self, batches: Iterable[pa.RecordBatch]) -> None:
        """The newest event of each window against the stored windows (see sink/windows.py, stored_windows)."""
        together, size, seen = list[pa.RecordBatch](), 0, list[pl.Series]()
        for batch in batches:
            together.append(batch)
            size += batch.num_rows
            if size >= _TOGETHER:
                seen.append(self._compare(together))
                together, size = [], 0
        if together:
            seen.append(self._compare(together))
        found = pl.concat(seen) if seen else pl.Series("row", [], dtype=self._newest["row"].dtype)
        self.keys.update(self._newest.filter(~pl.col("row").is_in(found.implode()))["key"].to_list())

    def _compare(self, batches: list[pa.RecordBatch]) -> pl.Series:
        """The rows of the newest events whose windows are among these."""
        stored = pl.DataFrame(pa.Table.from_batches(batches)).with_columns(
            pl.col(*_SUBJECT, "period_type").cast(pl.String), pl.col(*_VALUES).cast(_DECIMAL)
        )
        both = self._newest.join(stored, on=list(_WINDOW), suffix="_stored")
        differs = pl.any_horizontal(pl.col(name) != pl.col(f"{name}_stored") for name in ("record_count", *_VALUES))
        revision, through = pl.col("revision"), pl.col("folded_through")
        self.keys.update(both.filter((revision > through) | ((revision == through) & differs))["key"].to_list())
        return both["row"]

    def _of_range(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Without the events of windows that do not lie in the range as a whole."""
        if self._within is None:
            return frame
        start, end = self._within.bounds
        begins = pl.col("period_start").cast(pl.Datetime("us", "UTC"))
        ends = pl.coalesce(
            pl.when(pl.col("period_type") == name).then(begins.dt.offset_by(length))
            for name, length in _LENGTHS.items()
        )
        return frame.filter((pl.col("period_start") >= start) & (ends.dt.epoch("us") <= end))


def _key() -> pl.Expr:
    """The key of a window whose texts are all plain, as ids.window_key makes it."""
    texts = [pl.concat_str(pl.lit('"'), pl.col(name), pl.lit('"')) for name in (*_SUBJECT, "period_type")]
    inside = pl.concat_str(*texts, pl.col("period_start").cast(pl.String), separator=",")
    return pl.concat_str(pl.lit("["), inside, pl.lit("]")).cast(pl.Binary)
