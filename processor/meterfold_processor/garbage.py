"""Control of Python's cyclic garbage collector, and of the memory that was freed.

Consumed messages form no cycles, but the collector does not know that. Each automatic run visits all of them, several
hundred thousand, which took a third of the CPU time of consuming them.

What a batch frees stays with glibc as long as anything above it is in use: 100 to 200 MB of a worker.
"""

from __future__ import annotations

import ctypes
import gc
import time
from types import TracebackType
from typing import Self

PAUSE_SECONDS = 5.0

_LIBC = ctypes.CDLL(None)


class PausedGC:
    """Disables automatic collection. `collect` runs one if the last one is long enough ago, and gives freed memory back
    to the system.

    Objects that exist at the start are not visited again. It affects the whole process: use one at a time.
    """

    def __init__(self, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._pause = pause_seconds
        self._next = 0.0

    def __enter__(self) -> Self:
        self._was_enabled = gc.isenabled()
        gc.disable()
        gc.collect()
        gc.freeze()
        self._next = time.monotonic() + self._pause
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        gc.unfreeze()
        if self._was_enabled:
            gc.enable()

    def collect(self) -> bool:
        """Collect if it is time; returns whether it was. Call it while few objects are alive."""
        now = time.monotonic()
        if now < self._next:
            return False
        gc.collect()
        _give_back()
        self._next = now + self._pause
        return True


def _give_back() -> None:
    """Other C libraries than glibc have no such call; theirs decide alone."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)
