"""Ctrl-C, SIGTERM and SIGHUP in a process that runs until it is stopped."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Self

from meterfold_cli import exits

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ShutdownSignals:
    """The first signal sets `event`. The second one ends the process at once with exit code 130.

    While `starting` is true, the first signal also raises KeyboardInterrupt, because there is nothing to stop yet.
    `kill` is called before the process ends. Use it in the main thread; the previous handlers are restored at the end.
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
