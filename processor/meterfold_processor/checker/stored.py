"""What the checker reads from ClickHouse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from meterfold_processor.checker.operations import Folded, LoadWindows, Piece
from meterfold_processor.checker.sweeps import WindowKey
from meterfold_schemas.errors import Retryable
from meterfold_schemas.keys import SUBJECT
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink import fold_state
from meterfold_sink.client import Client, connect
from meterfold_sink.migrate import check_schema
from meterfold_sink.rules import FoldRules
from meterfold_sink.windows_by_key import iter_windows_by_key

__all__ = ["CheckerStore"]

_IDLE_SECONDS: Final = 5.0
"""A query that nothing was read of for longer is asked again."""


class CheckerStore:
    """For one thread. Every method raises Retryable or Fatal."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._connected: Client | None = None
        self._streaming: Client | None = None
        self._stream: _Stream | None = None

    def rules(self) -> FoldRules:
        """The stored rules; the schema is checked as well."""
        check_schema(self._client)
        return fold_state.read_rules(self._client)

    def folded(self, partitions: tuple[int, ...], *, required: bool) -> dict[int, Folded] | None:
        """How far the fold is. See operations.ReadStamps."""
        try:
            progress = fold_state.read_progress(self._client, partitions)
        except Retryable:
            if required:
                raise
            return None
        found = {partition: Folded(row.last_stamp or None, row.next_offset) for partition, row in progress.items()}
        return {partition: found.get(partition, Folded(None, 0)) for partition in partitions}

    def windows(self, wanted: LoadWindows) -> Piece:
        """The next piece of stored windows.

        One query stays open for all pieces of a sweep, and the server sends its rows as they are asked for. After
        another sweep, or a pause in which the server may have closed it, a new one begins behind the last key.
        """
        stream = self._stream
        if stream is None or not stream.continues(wanted):
            self._end_stream()
            stream = self._stream = _Stream(self._query(wanted), wanted)
        piece: Piece | None = None
        try:
            piece = stream.take(wanted.rows)
        finally:
            if piece is None or piece.last is None:
                self._end_stream()
        return piece

    def close(self) -> None:
        self._end_stream()
        for client in (self._connected, self._streaming):
            if client is not None:
                client.close()

    def _query(self, wanted: LoadWindows) -> Iterator[pa.RecordBatch]:
        if self._streaming is None:
            self._streaming = connect(self._settings)
        affected = wanted.affected
        every_org = affected is None or any(org is None for org, _ in affected)
        return iter_windows_by_key(
            self._streaming,
            wanted.partition,
            ends_after=wanted.ends_after,
            period_types=wanted.periods,
            start=wanted.start,
            org_ids=None if affected is None or every_org else {str(org) for org, _ in affected},
            metric_keys=None if affected is None else {key for _, key in affected},
            after=wanted.after,
        )

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    @property
    def _client(self) -> Client:
        if self._connected is None:
            self._connected = connect(self._settings)
        return self._connected


class _Stream:
    """An open query of one sweep."""

    def __init__(self, batches: Iterator[pa.RecordBatch], wanted: LoadWindows) -> None:
        self._batches = batches
        self._sweep, self._partition, self._after = wanted.sweep, wanted.partition, wanted.after
        self._left: pa.RecordBatch | None = None
        self._used = time.monotonic()

    def continues(self, wanted: LoadWindows) -> bool:
        """Whether the next piece of this query is the wanted one."""
        same = (self._sweep, self._partition, self._after) == (wanted.sweep, wanted.partition, wanted.after)
        return same and time.monotonic() - self._used < _IDLE_SECONDS

    def take(self, rows: int) -> Piece:
        taken: list[pa.RecordBatch] = []
        while rows > 0:
            batch = self._left if self._left is not None else next(self._batches, None)
            self._left = None
            if batch is None:
                return Piece(pa.Table.from_batches(taken) if taken else None, None)
            if batch.num_rows > rows:
                self._left = batch.slice(rows)
                batch = batch.slice(0, rows)
            if batch.num_rows:
                taken.append(batch)
                rows -= batch.num_rows
        self._after = _key_of(taken[-1])
        self._used = time.monotonic()
        return Piece(pa.Table.from_batches(taken), self._after)

    def close(self) -> None:
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()


def _key_of(batch: pa.RecordBatch) -> WindowKey:
    """The key of its last row."""
    last = batch.slice(batch.num_rows - 1)
    org_id, metric_key, subject_type, subject_id = (last.column(name)[0].as_py() for name in SUBJECT)
    code: int = last.column("period_type")[0].as_py()  # an Enum8 arrives as its number
    start = last.column("period_start").cast(pa.int64())[0].as_py()
    return code, start, org_id, metric_key, subject_type, subject_id
