"""The trace of each touched window, from the headers of the events: setting `traces` of [fold], off by default.

A window's `folded_through` is the offset of the newest event in it. The trace of a window is that event's, so one
message per window is looked at, and no other header is taken apart. A window without a new event in the batch, as when
a flush is repeated after a crash, has no trace. Traces travel with published windows and decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from meterfold_processor.columns.tables import TRACES
from meterfold_processor.fold.messages import Headers
from meterfold_processor.fold.partition import Folded
from meterfold_processor.tracing import Spans
from meterfold_schemas.traces import PARENT, PARENT_SIZE, STATE, TraceContext

__all__ = ["FlushSpans", "with_traces"]

MOST_LINKS = 32
"""A span has at most this many links."""


def with_traces(folded: Folded, part: pl.DataFrame, headers: Sequence[Headers]) -> Folded:
    """`part`: the decoded messages that were folded, with columns `offset` (rising) and `row`, which indexes `headers`.
    Unchanged where no window has a trace."""
    if not folded.windows.num_rows or not any(headers):
        return folded
    through = folded.windows["folded_through"].to_numpy()
    offsets = part["offset"].to_numpy()
    places = np.minimum(np.searchsorted(offsets, through), len(offsets) - 1)
    own = offsets[places] == through
    # Several windows have the same newest event.
    wanted = np.unique(places[own])
    found = [_traced(headers[row]) for row in part["row"].to_numpy()[wanted].tolist()]
    parents = pa.array([parent for parent, _ in found], pa.binary())
    if parents.null_count == len(found):
        return folded
    states = pa.array([state for _, state in found], pa.binary())
    rows: Any = pa.array(np.searchsorted(wanted, places), mask=~own)
    return replace(folded, traces=pa.Table.from_arrays([parents.take(rows), states.take(rows)], schema=TRACES))


def _traced(headers: Headers) -> tuple[bytes | None, bytes | None]:
    """What looks like a traceparent, and the tracestate beside it; whoever uses them checks them."""
    found = dict(headers or ())
    parent = found.get(PARENT)
    return (parent, found.get(STATE)) if parent is not None and len(parent) == PARENT_SIZE else (None, None)


class FlushSpans:
    """A span for each flush, with links to the traces of its windows."""

    def __init__(self, spans: Spans, topic: str) -> None:
        self._spans = spans
        self._topic = topic

    @contextmanager
    def flush(self, batch: Sequence[Folded]) -> Iterator[None]:
        """While the folded batches are written."""
        span = self._spans.start(
            f"process {self._topic}",
            "CONSUMER",
            None,
            {
                "messaging.system": "kafka",
                "messaging.destination.name": self._topic,
                "messaging.batch.message_count": sum(
                    part.num_rows for done in batch for part in (done.records, done.duplicates, done.rejected)
                ),
                "meterfold.partitions": ",".join(str(done.partition) for done in batch),
                "meterfold.windows": sum(done.windows.num_rows for done in batch),
            },
            _links(batch),
        )
        try:
            yield
        except BaseException as error:
            if span is not None:
                span.end(str(error) or type(error).__name__)
            raise
        if span is not None:
            span.end()


def _links(batch: Sequence[Folded]) -> list[TraceContext]:
    found: dict[TraceContext, None] = {}
    for done in batch:
        if done.traces is not None:
            distinct = done.traces.group_by([PARENT, STATE]).aggregate([]).slice(0, MOST_LINKS + 1)
            pairs = zip(distinct[PARENT].to_pylist(), distinct[STATE].to_pylist(), strict=True)
            found.update({link: None for pair in pairs if (link := TraceContext.of(*pair)) is not None})
    return list(found)[:MOST_LINKS]
