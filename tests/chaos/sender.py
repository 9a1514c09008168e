"""Somebody who sends beside the SDK, from a thread, one thing after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Event, Thread

from chaos.ground import QUICK, Ground
from support import producer


class Sender(ABC):
    """Sends until it is stopped, and may be started again; every message has its report then."""

    pause_seconds: float

    def __init__(self, ground: Ground) -> None:
        self._topic = ground.topics.usage_recorded
        self._producer = producer(ground.kafka, **{"linger.ms": 5, **QUICK})
        self._stop = Event()
        self._number = 0
        self._thread: Thread | None = None

    @abstractmethod
    def send(self) -> None:
        """The next one; `_number` counts them from 1."""

    def start(self) -> None:
        self._stop.clear()
        self._thread = Thread(target=self._run, name=type(self).__name__.lower(), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join(60)
            self._thread = None
            self._producer.flush(120)

    def _run(self) -> None:
        while not self._stop.wait(self.pause_seconds):
            self._number += 1
            self.send()
            self._producer.poll(0)
