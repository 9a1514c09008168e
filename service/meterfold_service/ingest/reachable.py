"""Whether Kafka answers, asked only where the producer has trouble: trouble ends with a delivery, and nothing is
delivered while requests are refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from meterfold_processor.kafka.admin import Admin
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.settings import KafkaSettings
from meterfold_service.ingest.errors import KafkaUnavailable

__all__ = ["Reachable"]

_ASK_SECONDS: Final = 1.2
_QUEUE_SECONDS: Final = 0.3
"""How long a request waits for the answer that another one asks for: there are few threads."""
_KNOWN_SECONDS: Final = 0.5


class Reachable:
    """For any thread; one of them asks, and its answer is good for half a second."""

    def __init__(self, kafka: KafkaSettings, clock: Callable[[], float]) -> None:
        self._kafka = kafka
        self._clock = clock
        self._lock = threading.Lock()
        self._admin: Admin | None = None
        self._known_until = -1.0
        self._trouble: str | None = None

    def check(self) -> None:
        """Raises KafkaUnavailable, in less than 2 s."""
        if not self._lock.acquire(timeout=_QUEUE_SECONDS):
            raise KafkaUnavailable.of("Kafka does not answer")
        try:
            if self._clock() >= self._known_until:
                self._trouble = self._ask()
                self._known_until = self._clock() + _KNOWN_SECONDS
            if self._trouble is not None:
                raise KafkaUnavailable.of("Kafka does not answer", self._trouble)
        finally:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._admin = None

    def _ask(self) -> str | None:
        try:
            if self._admin is None:
                self._admin = Admin(self._kafka, _ASK_SECONDS)
            self._admin.topics()
        except MeterfoldError as error:
            return str(error)
        return None
