"""The result of each imported event (counted, duplicate or rejected), looked up by its position in the log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from meterfold_cli.console import ProgressCallback
from meterfold_cli.importing.deliveries import PAGE, Deliveries
from meterfold_schemas.errors import Retryable
from meterfold_sink.client import Client
from meterfold_sink.fold_state import read_progress
from meterfold_sink.positions import rejected_details, stored_since

__all__ = ["Outcome", "wait_for_fold"]

_LOOK_SECONDS: Final = 0.2
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """delivered = counted + duplicates + the sum of `rejected` (reason -> events) + pending + unknown.

    pending: not folded when the wait was over, in `waiting` partitions. unknown: folded but found nowhere, or of an
    offset that the broker did not say. `rejected_shown` are the first rejected ones, in words.
    """

    counted: int
    duplicates: int
    rejected: Mapping[str, int]
    pending: int
    unknown: int
    waiting: tuple[int, ...]
    rejected_shown: tuple[str, ...]


def wait_for_fold(
    client: Client, deliveries: Deliveries, since: int, wait_seconds: float, tell: ProgressCallback
) -> Outcome:
    """Wait until every delivered event is folded, at most `wait_seconds`; then look all of them up.

    `since` is the earliest broker's stamp that they can have, in UTC microseconds. Raises Retryable or Fatal.
    """
    last = deliveries.last()
    deadline = time.monotonic() + wait_seconds
    while True:
        reached = _reached(client, deadline)
        waiting = tuple(sorted(number for number, offset in last.items() if reached.get(number, 0) <= offset))
        left = deadline - time.monotonic()
        if not waiting or left <= 0:
            return _look_up(client, deliveries, since, reached, waiting)
        tell(0, None, f"waiting for the fold, partition {', '.join(map(str, waiting))}")
        time.sleep(min(_LOOK_SECONDS, left))


def _reached(client: Client, deadline: float) -> dict[int, int]:
    while True:
        try:
            return {number: progress.next_offset for number, progress in read_progress(client).items()}
        except Retryable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_LOOK_SECONDS)


def _look_up(
    client: Client, deliveries: Deliveries, since: int, reached: Mapping[int, int], waiting: tuple[int, ...]
) -> Outcome:
    found = np.zeros(3, np.int64)
    rejected: Counter[str] = Counter()
    shown: list[str] = []
    pending = unknown = 0
    for partition, first, ours in deliveries.pages():
        folded = max(0, min(PAGE, reached.get(partition, 0) - first))
        pending += int(np.count_nonzero(ours[folded:]))
        wanted = int(np.count_nonzero(ours[:folded]))
        if not wanted:
            continue
        table = stored_since(client, partition, first, first + folded, since)
        offsets = table["offset"].to_numpy()
        mine = ours[offsets - first]
        kinds = table["kind"].to_numpy()[mine]
        counts = np.bincount(kinds, minlength=3)
        found += counts
        unknown += wanted - int(counts.sum())
        if counts[2]:
            reasons = table["reason"].to_numpy(zero_copy_only=False)[mine][kinds == 2]
            rejected.update(map(str, reasons))
            examples = offsets[mine][kinds == 2][: _SHOWN - len(shown)].tolist()
            if examples:
                shown += [
                    f"partition {partition}, offset {row['offset']}: {row['reason']}: {row['detail']}"
                    for row in rejected_details(client, partition, examples)
                ]
    return Outcome(
        counted=int(found[0]),
        duplicates=int(found[1]),
        rejected=dict(sorted(rejected.items())),
        pending=pending,
        unknown=unknown + deliveries.unlocated,
        waiting=waiting,
        rejected_shown=tuple(shown),
    )
