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

_TAIL_END: Final = 1 << 48


class EventIds:
    """Makes ids; `next()` may be called from many threads.

    A millisecond's first id has 73 random bits; the next ones count up in the last 48 (RFC 9562, 6.2, method 1), also
    while the clock does not move or steps back. An id is not a secret, so the steps need not be random.
    """

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """A state of our own: the parent's random bits would give the parent's ids."""
        self._lock = threading.Lock()
        self._millisecond = 0
        self._head = ""
        self._tail = 0

    def next(self) -> str:
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._millisecond:
                self._begin(now)
            else:
                self._tail += 1
                if self._tail == _TAIL_END:  # the clock has not moved for ages
                    self._begin(self._millisecond + 1)
            return f"{self._head}{self._tail:012x}"

    def take(self, count: int) -> tuple[str, int]:
        """(head, first tail) of `count` ids; an id is the head and its tail in 12 hexadecimal digits."""
        now = time.time_ns() // 1_000_000
        with self._lock:
            if now > self._millisecond:
                self._begin(now)
            else:
                self._tail += 1
            if self._tail + count > _TAIL_END:
                self._begin(self._millisecond + 1)
            first = self._tail
            self._tail += count - 1
            return self._head, first

    def _begin(self, millisecond: int) -> None:
        random = int.from_bytes(os.urandom(10), "big")
        self._millisecond = millisecond
        # The top bit of the tail stays free, so that a millisecond's ids cannot run over.
        self._tail = random & (_TAIL_END >> 1) - 1
        version_and_a = 0x7000 | random >> 48 & 0x0FFF
        variant_and_b = 0x8000 | random >> 60 & 0x3FFF
        time_part = f"{millisecond & _TAIL_END - 1:012x}"
        self._head = f"{time_part[:8]}-{time_part[8:]}-{version_and_a:04x}-{variant_and_b:04x}-"
