"""What Ctrl-C, SIGTERM and SIGHUP mean to a process that runs until it is told to stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

from meterfold_cli import exits

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending:
    """The first signal asks, `event` is set; the second ends the process at once with exit code 130.

    `starting` makes the first one raise KeyboardInterrupt as well, for as long as there is nothing to stop in order.
    `kill` is called before the process ends itself. For the main thread; handlers before are put back at the end.
    """

    def __init__(self, *, starting: bool = False, kill: Callable[[], None] | None = None) -> None:
        self.event = threading.Event()
        self.starting = starting
        self._kill = kill
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._asked) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if self.event.is_set():
            if self._kill is not None:
                self._kill()
            os._exit(exits.INTERRUPTED)
        self.event.set()
        if self.starting:
            raise KeyboardInterrupt
