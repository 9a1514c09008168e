"""A batch whose events are reported together, without an object for each of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

__all__ = ["SentBatch"]


class SentBatch:
    """What the broker reported about the events of a batch, by their place in it.

    `on_end` is called once, after the last report, in the thread that serves reports (in that of the caller if nothing
    could be sent). It must not block.
    """

    __slots__ = ("_reports", "errors", "offsets", "on_end", "partitions")

    def __init__(self, size: int, on_end: Callable[[], None]) -> None:
        """`size`: 1 or more."""
        #: None until the event is delivered.
        self.partitions: list[int | None] = [None] * size
        self.offsets: list[int | None] = [None] * size
        #: What kept an event from being delivered. Its outcome is unknown: the broker may have it.
        self.errors: dict[int, str] = {}
        self.on_end = on_end
        self._reports = itertools.count(1)

    def count(self) -> int:
        """One more report; how many there are now. Each number is given once, whichever threads ask."""
        return next(self._reports)
