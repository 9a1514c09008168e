"""Control of Python's cyclic garbage collector.

Consumed messages form no cycles, but the collector does not know that. Each automatic run visits all of them, several
hundred thousand, which took a third of the CPU time of consuming them.
"""

from __future__ import annotations

import gc
import time
from types import TracebackType
from typing import Self

PAUSE_SECONDS = 5.0


class PausedGC:
    """Disables automatic collection. `collect` runs one if the last one is long enough ago.

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
        self._next = now + self._pause
        return True
