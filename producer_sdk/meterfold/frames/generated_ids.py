"""Many new event ids at once."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from meterfold.event_ids import EventIds

__all__ = ["new_ids"]

_DIGITS: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_TAIL: Final = 12


def new_ids(ids: EventIds, count: int) -> Any:
    """As many ids as `ids.next()` would give, as Arrow strings."""
    head, first = ids.take(count)
    size = len(head) + _TAIL
    cells = np.empty((count, size), np.uint8)
    cells[:, : len(head)] = np.frombuffer(head.encode(), np.uint8)
    tails = np.uint64(first) + np.arange(count, dtype=np.uint64)
    for place in range(_TAIL):
        cells[:, len(head) + place] = _DIGITS[tails >> np.uint64(4 * (_TAIL - 1 - place)) & np.uint64(15)]
    ends = np.arange(count + 1, dtype=np.int32) * size
    parts: list[Any] = [ends, cells]
    return pa.Array.from_buffers(pa.string(), count, [None, *map(pa.py_buffer, parts)])
