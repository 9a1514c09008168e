"""The I/O of the checker: frozen operations, yielded one by one and performed by a driver.

The checker decides the order; the driver only performs, and answers. So a test can stop between any two operations,
and a simulation can perform them on a model. An operation that raises ends the step: the checker drops what it has in
memory and starts again from what is committed.

    opening a partition   FetchCommitted, FetchEnds, ReadDefinitions, ReadStates, ReadStamps, LoadWindows, then a
                          transaction, then StartReading
    a step                PollRows, PollDefinitions, (LoadWindows), (ReadStamps), then a transaction
    a transaction         Begin, Produce, Flush, SendOffsets, Commit
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from meterfold_processor.checker.definitions import Affected
from meterfold_processor.kafka.clients import Outgoing
from meterfold_schemas.periods import Period

__all__ = [
    "Batch",
    "Begin",
    "CommitTransaction",
    "Committed",
    "CommittedStates",
    "Drive",
    "Ends",
    "FetchCommitted",
    "FetchEnds",
    "FlushMessages",
    "LoadWindows",
    "Operation",
    "PollDefinitions",
    "PollRows",
    "Produce",
    "ReadDefinitions",
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
    """Read `threshold.state` and `usage.aggregated` of these partitions from their beginnings to `ends`, committed
    messages only. Answer: {p: States}."""

    partitions: tuple[int, ...]
    ends: Ends


@dataclass(frozen=True, slots=True)
class CommittedStates:
    """The newest value under each key, without tombstones."""

    states: tuple[bytes, ...]
    aggregates: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ReadStamps:
    """The broker's stamp of the last folded event of each partition (UTC microseconds). Answer: {p: stamp or None}.
    With `required` false None instead of the dictionary where ClickHouse does not answer."""

    partitions: tuple[int, ...]
    required: bool


@dataclass(frozen=True, slots=True)
class LoadWindows:
    """The stored windows of a partition that end after `ends_after` (UTC microseconds; lifetime never ends), of these
    periods, and of the affected metrics or (None) of all. Answer: an iterable of tables of `usage_windows`; rows that
    were not asked for may be among them."""

    partition: int
    ends_after: int
    periods: frozenset[Period]
    affected: Affected | None


@dataclass(frozen=True, slots=True)
class StartReading:
    """Read `usage.windows` from these offsets. No answer."""

    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class PollRows:
    """What has arrived on `usage.windows`, perhaps nothing. Answer: {p: Batch}. Partitions may be lost meanwhile."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages from `first_offset` on; `next_offset` is the next to read. `damaged` counts those that were no window
    rows."""

    tables: tuple[pa.Table, ...]
    first_offset: int
    next_offset: int
    damaged: int = 0


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
    | StartReading
    | PollRows
    | PollDefinitions
    | Begin
    | Produce
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
