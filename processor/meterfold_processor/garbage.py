"""Python's collector of cyclic garbage, run at moments of our own choosing.

Consumed messages are in no cycle, but the collector cannot know: each time it runs by itself it visits all that are
held, several hundred thousand, and that was a third of the CPU time of consuming them.
"""

from __future__ import annotations

import gc
import time
from types import TracebackType
from typing import Self

PAUSE_SECONDS = 5.0


class PausedGC:
    """Within this context nothing is collected by itself; `collect` does when the last time is long enough ago.

    What exists at the start is taken to stay and is not visited again. For the whole process: one at a time.
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
        """Collect if it is time; whether it was. To be called while few objects are held."""
        now = time.monotonic()
        if now < self._next:
            return False
        gc.collect()
        self._next = now + self._pause
        return True
