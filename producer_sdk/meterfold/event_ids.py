"""UUIDv7 event ids (RFC 9562): unique over processes and forks, and increasing within a process.

An id that comes twice under one subject would count once, so the entropy is the operating system's and a forked child
draws its own.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final

from meterfold.forks import renew_after_fork

__all__ = ["EventIds"]

_RANDOM_BITS: Final = 74  # rand_a (12 bits) and rand_b (62 bits)
_RANDOM_END: Final = 1 << _RANDOM_BITS
_LOW_BITS: Final = (1 << 62) - 1
_VERSION: Final = 7 << 76
_VARIANT: Final = 2 << 62
_POOL_SIZE: Final = 4096
_DRAW: Final = 10  # bytes for a new millisecond
_STEP: Final = 4  # bytes for the step to the next id within one


class EventIds:
    """Makes ids; `next()` may be called from many threads.

    Within one millisecond, and while the clock stands still or steps back, the 74 random bits grow by a random step
    (RFC 9562, 6.2, method 2).
    """

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """A state of our own: the parent's entropy would give the parent's ids."""
        self._lock = threading.Lock()
        self._millisecond = 0
        self._random = 0
        self._pool = b""
        self._used = 0

    def next(self) -> str:
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._millisecond:
                self._millisecond = now
                # The top bit stays free, so that the steps of a millisecond cannot run over.
                self._random = self._draw(_DRAW) % (_RANDOM_END >> 1)
            else:
                self._random += 1 + self._draw(_STEP)
                if self._random >= _RANDOM_END:  # the clock has stood still for ages
                    self._millisecond += 1
                    self._random = self._draw(_DRAW) % (_RANDOM_END >> 1)
            milliseconds, random = self._millisecond, self._random
        number = milliseconds << 80 | _VERSION | (random >> 62) << 64 | _VARIANT | random & _LOW_BITS
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _draw(self, size: int) -> int:
        start = self._used
        if start + size > len(self._pool):
            self._pool, start = os.urandom(_POOL_SIZE), 0
        self._used = start + size
        return int.from_bytes(self._pool[start : start + size], "little")
