"""usage.export and its stream of batches."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self, cast

import pyarrow as pa

from meterfold_schemas.periods import MICROS_PER_SECOND, from_micros, micros
from meterfold_service.errors import ExportIncomplete, NotFoldedInTime, RecordsExpired
from meterfold_service.exports.ahead import read_ahead
from meterfold_service.exports.files import new_file
from meterfold_service.exports.formats import open_writer
from meterfold_service.exports.results import Exported, ExportProgress, Format, What
from meterfold_sink.fold_state import read_progress, read_rules
from meterfold_sink.usage_export import ExportFilter, binary_columns, count_rows, expired_records, read_rows

if TYPE_CHECKING:
    from datetime import datetime

    from meterfold_schemas.settings import KafkaSettings
    from meterfold_sink.client import Client
    from meterfold_sink.pool import ClientPool
    from meterfold_sink.rules import FoldRules

__all__ = ["ExportStream", "Selection", "export", "fold_mark"]

_FOLD_SECONDS: Final = 10.0
"""How long an export by day waits for the fold to catch up."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is exported. `partial`: also if some of the records have expired."""

    what: What
    rows: ExportFilter
    partial: bool = False


class ExportStream:
    """The batches of an export, in order, and what is known before the first: `schema`, `expected` rows, `positions`,
    and how many records have `expired`.

    Iterate once. It holds a connection until the last batch was taken or it is closed.
    """

    def __init__(self, clients: ClientPool, selection: Selection, now: Callable[[], datetime]) -> None:
        self._held = ExitStack()
        try:
            client = self._held.enter_context(clients.client())
            rules = read_rules(client)
            self.positions = {one.partition: one.next_offset for one in read_progress(client).values()}
            self._lost: Callable[[], int] = lambda: _expired(client, rules, selection, micros(now()))
            self.expired = self._lost()
            asked = selection.what.value, selection.rows, self.positions
            self.expected = count_rows(client, rules, *asked)
            self._reader = read_rows(client, rules, *asked)
            self._held.callback(self._reader.close)
        except BaseException:
            self._held.__exit__(*sys.exc_info())
            raise
        self._recount: Callable[[], int] = lambda: count_rows(client, rules, *asked)
        self.schema = _with_texts(self._reader.schema, binary_columns(selection.what.value))
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._reader:
                self.rows += batch.num_rows
                yield batch if batch.schema == self.schema else batch.cast(self.schema)
            # A broken answer may look like a shorter one. Records can only become fewer, when they expire.
            if self.rows < self.expected and self.rows < self._recount():
                raise ExportIncomplete(self.rows, self.expected)
            if self.rows < self.expected:
                self.expired = self._lost()
        except BaseException:
            self._held.__exit__(*sys.exc_info())
            raise
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.__exit__(kind, error, trace)


def _expired(client: Client, rules: FoldRules, selection: Selection, now: int) -> int:
    """How many records have expired. Raises RecordsExpired where all are wanted."""
    if selection.what is not What.RECORDS:
        return 0
    lost = expired_records(client, rules, selection.rows, now)
    if lost is None:
        return 0
    if not selection.partial:
        raise RecordsExpired.of_export(selection.rows.metric_key or "", lost.hour, lost.missing, lost.kept_from)
    return lost.missing


def fold_mark(
    clients: ClientPool, kafka: Callable[[], KafkaSettings] | None, enough: Callable[[int, int], bool], now: int
) -> tuple[int, int]:
    """(the mark, grace), in UTC microseconds: everything that arrived until the mark is folded.

    The stamps of the last events say so where each partition has had one since. A partition without traffic says
    nothing alone: if the stamps are not `enough` (mark, grace), Kafka is asked whether all of the log is folded.
    """
    with clients.client() as client:
        rules = read_rules(client)
        grace = rules.grace_seconds * MICROS_PER_SECOND
        progress = read_progress(client)
        stamps = [progress[p].last_stamp if p in progress else 0 for p in range(rules.partition_count)]
        mark = min(*stamps, now) if stamps else now
        if kafka is None or enough(mark, grace):
            return mark, grace
        from meterfold_service.periods.closing import wait_until_folded

        try:
            wait_until_folded(kafka(), client, rules, _FOLD_SECONDS, lambda text: None)
        except NotFoldedInTime:
            return mark, grace
        return now, grace


def export(
    clients: ClientPool,
    selection: Selection,
    to: Path | IO[bytes],
    kind: Format,
    *,
    overwrite: bool,
    safe_for_spreadsheets: bool,
    on_progress: ExportProgress | None,
    now: Callable[[], datetime],
) -> Exported:
    """Write all rows to a file or a binary stream. Raises what `new_file` and the queries raise."""
    with ExitStack() as held:
        out = held.enter_context(new_file(to, overwrite=overwrite)) if isinstance(to, Path) else to
        counted = _Counted(out)
        stream = held.enter_context(ExportStream(clients, selection, now))
        writer = open_writer(
            kind,
            cast("IO[bytes]", counted),
            stream.schema,
            seekable=isinstance(to, Path),
            safe_for_spreadsheets=safe_for_spreadsheets,
        )
        rows = 0
        with closing(read_ahead(stream, stream.schema)) as batches:
            for batch in batches:
                writer.write(batch)
                rows += batch.num_rows
                if on_progress is not None:
                    on_progress(rows, stream.expected, counted.size)
        writer.close()
        out.flush()
    return Exported(
        selection.what,
        kind,
        to if isinstance(to, Path) else None,
        rows,
        counted.size,
        None if selection.rows.start is None else from_micros(selection.rows.start),
        None if selection.rows.end is None else from_micros(selection.rows.end),
        stream.positions,
        stream.expired,
    )


def _with_texts(schema: pa.Schema, binary: tuple[str, ...]) -> pa.Schema:
    """The schema where only these columns are bytes."""
    return pa.schema(
        [
            field.with_type(pa.string()) if pa.types.is_binary(field.type) and field.name not in binary else field
            for field in schema
        ]
    )


class _Counted(io.RawIOBase):
    """Passes everything on and counts the bytes."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        written = memoryview(data).nbytes
        self._out.write(data)
        self.size += written
        return written

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        """The target stays open: who opened it closes it."""
