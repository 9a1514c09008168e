"""Reads batches ahead in a thread of its own, so that the server works while the last ones are written."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from queue import Empty, Full, Queue
from typing import Final

import pyarrow as pa

__all__ = ["read_ahead"]

_ROWS: Final = 65_536
"""Of a batch that is written: the server's have 8,192 where it merges parts, and each costs some."""
_AHEAD: Final = 2
_LOOK_SECONDS: Final = 0.2


def read_ahead(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Generator[pa.RecordBatch, None, None]:
    """The same rows in larger batches. Raises what `batches` raises; closed early, the thread ends first."""
    queue: Queue[pa.RecordBatch | BaseException | None] = Queue(_AHEAD)
    stopping = threading.Event()

    def put(item: pa.RecordBatch | BaseException | None) -> bool:
        while not stopping.is_set():
            try:
                queue.put(item, timeout=_LOOK_SECONDS)
            except Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for batch in _joined(batches, schema):
                if not put(batch):
                    return
        except BaseException as error:  # raised again where the batches are used
            put(error)
        else:
            put(None)

    thread = threading.Thread(target=read, name="meterfold-export", daemon=True)
    thread.start()
    try:
        while True:
            item = queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopping.set()
        while thread.is_alive():
            try:
                queue.get_nowait()
            except Empty:
                thread.join(_LOOK_SECONDS)


def _joined(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterable[pa.RecordBatch]:
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _ROWS:
            yield from _one(waiting, schema)
            waiting, rows = [], 0
    yield from _one(waiting, schema)


def _one(batches: list[pa.RecordBatch], schema: pa.Schema) -> list[pa.RecordBatch]:
    if len(batches) <= 1:
        return batches
    return pa.Table.from_batches(batches, schema).combine_chunks().to_batches()
