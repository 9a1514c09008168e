"""The I/O of the checker: frozen operations, yielded one by one and performed by a driver.

The checker decides the order; the driver only performs, and answers. So a test can stop between any two operations,
and a simulation can perform them on a model. An operation that raises ends the step: the checker drops what it has in
memory and starts again from what is committed.

    opening a partition   FetchCommitted, FetchEnds, ReadDefinitions, ReadStates, ReadStamps, then a transaction, then
                          StartReading
    a step                PollRows, PollDefinitions, (ReadStamps), a transaction for what was judged,
                          (LoadWindows), a transaction for what was judged of the stored windows,
                          (ReadEmitted), (LoadWindows), a transaction for aggregates
    a transaction         Begin, Produce or ProduceRun, FlushMessages, SendOffsets, CommitTransaction
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from meterfold_processor.checker.definitions import Affected
from meterfold_processor.checker.sweeps import WindowKey
from meterfold_processor.checker.traces import NO_TRACES, Traces
from meterfold_processor.kafka.clients import Outgoing, OutgoingRun
from meterfold_schemas.periods import Period

__all__ = [
    "Batch",
    "Begin",
    "CommitTransaction",
    "Committed",
    "Drive",
    "Ends",
    "FetchCommitted",
    "FetchEnds",
    "FlushMessages",
    "Folded",
    "LoadWindows",
    "Operation",
    "Piece",
    "PollDefinitions",
    "PollRows",
    "Produce",
    "ProduceRun",
    "ReadDefinitions",
    "ReadEmitted",
    "ReadStamps",
    "ReadStates",
    "SendOffsets",
    "StartReading",
    "Steps",
    "drive_all",
]


@dataclass(frozen=True, slots=True)
class FetchCommitted:
    """Committed offsets of `usage.windows`, stable: a pending transaction's are waited for. Answer: {p: Committed}."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """`offset` is the next to read, None where the group has none; the log holds [log_start, log_end)."""

    offset: int | None
    log_start: int
    log_end: int


@dataclass(frozen=True, slots=True)
class FetchEnds:
    """The ends of the definitions and of the state topics as a read_uncommitted reader sees them, so that a transaction
    whose marker is still missing is waited for. Answer: Ends."""

    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ends:
    """Next offsets; `states` and `aggregates` by partition."""

    metric: int
    threshold: int
    states: Mapping[int, int]
    aggregates: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class ReadDefinitions:
    """Read both definition topics as a whole, up to these positions or beyond. Answer: DefinitionsRead."""

    metric: int
    threshold: int


@dataclass(frozen=True, slots=True)
class ReadStates:
    """Read `threshold.state` of these partitions from its beginning to `ends`, committed messages only. Answer:
    {p: the newest value under each key, without tombstones}."""

    partitions: tuple[int, ...]
    ends: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class ReadStamps:
    """How far the fold of each partition is. Answer: {p: Folded}. With `required` false None instead of the dictionary
    where ClickHouse does not answer."""

    partitions: tuple[int, ...]
    required: bool


@dataclass(frozen=True, slots=True)
class Folded:
    """`stamp`: the broker's of the last folded event (UTC microseconds), None where there is none. Rows of all windows
    up to below `offset` are stored."""

    stamp: int | None
    offset: int


@dataclass(frozen=True, slots=True)
class LoadWindows:
    """At most `rows` stored windows of a partition behind the key `after`, in the order of their key, that end after
    `ends_after` (UTC microseconds; lifetime never ends), of these periods, of one start or (None) any, and of the
    affected metrics or (None) of all. Answer: Piece, or None where ClickHouse does not answer.

    Pieces of one `sweep` may come from one moment: a row that is stored after its first piece may be missing.
    """

    partition: int
    sweep: int
    ends_after: int
    periods: frozenset[Period]
    start: int | None
    affected: Affected | None
    after: WindowKey | None
    rows: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of `usage_windows`; some that were not asked for may be among them. `last`: the key of the last one, None
    where no more follow."""

    table: pa.Table | None
    last: WindowKey | None


@dataclass(frozen=True, slots=True)
class ReadEmitted:
    """The next messages of `usage.aggregated` of a partition, from its beginning up to `end`, committed ones only.
    Answer: at most `messages` of (key, value or None) in order, or None when all were read."""

    partition: int
    end: int
    messages: int


@dataclass(frozen=True, slots=True)
class StartReading:
    """Read `usage.windows` from these offsets. No answer."""

    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class PollRows:
    """What has arrived on `usage.windows`, perhaps nothing; `wait`: a little, for the first. Answer: {p: Batch}.
    Partitions may be lost meanwhile."""

    wait: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages from `first_offset` on; `next_offset` is the next to read. `damaged` counts those that were no window
    rows, `traces` has what is known of their events."""

    tables: tuple[pa.Table, ...]
    first_offset: int
    next_offset: int
    damaged: int = 0
    traces: Traces = NO_TRACES


@dataclass(frozen=True, slots=True)
class PollDefinitions:
    """What has arrived on both definition topics, perhaps nothing. Answer: DefinitionsRead."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a transaction."""


@dataclass(frozen=True, slots=True)
class Produce:
    """Events and state, in this order."""

    messages: tuple[Outgoing, ...]


@dataclass(frozen=True, slots=True)
class ProduceRun:
    """Events of `usage.aggregated`."""

    run: OutgoingRun


@dataclass(frozen=True, slots=True)
class FlushMessages:
    """Wait until the broker has every message: a produce that is still queued when the offsets are in would escape the
    next owner's view of the end."""


@dataclass(frozen=True, slots=True)
class SendOffsets:
    """Offsets with the group's metadata: what fences an owner whose partitions belong to another one now."""

    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class CommitTransaction:
    """Commit the transaction. Any error leaves its outcome unknown."""


Operation = (
    FetchCommitted
    | FetchEnds
    | ReadDefinitions
    | ReadStates
    | ReadStamps
    | LoadWindows
    | ReadEmitted
    | StartReading
    | PollRows
    | PollDefinitions
    | Begin
    | Produce
    | ProduceRun
    | FlushMessages
    | SendOffsets
    | CommitTransaction
)

T = TypeVar("T")
Steps = Generator[Operation, Any, T]
Drive = Callable[[Steps[Any], Callable[[Operation], Any]], Any]
"""Performs the operations of one step, in order. Tests pass one that stops between two operations."""


def drive_all(steps: Steps[T], perform: Callable[[Operation], Any]) -> T:
    """Perform every operation, in order; the step's own result."""
    try:
        operation = next(steps)
        while True:
            operation = steps.send(perform(operation))
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        steps.close()
