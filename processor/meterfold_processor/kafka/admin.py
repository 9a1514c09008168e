"""The admin client that asks Kafka about topics and groups, with errors of our own tree."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from meterfold_processor.kafka.errors import Heard, as_error, settings_checked
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import KafkaSettings

__all__ = ["TIMEOUT_SECONDS", "Admin", "admin_for", "kept_admin"]

T = TypeVar("T")

_LOG = logging.getLogger("meterfold.kafka")

TIMEOUT_SECONDS: Final = 15.0
_LISTEN_SECONDS: Final = 0.1
_KNOWN_SECONDS: Final = 300.0
"""Leaders are asked for again after this time, well before librdkafka forgets them (metadata.max.age.ms, 900 s)."""


class Admin(AdminClient):
    """An admin client that knows why a call ran out of time: refused credentials, or no broker at the address."""

    def __init__(self, settings: KafkaSettings, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """`timeout_seconds`: of each request that is made through this client's users in this package."""
        self.timeout_seconds = timeout_seconds
        self._heard = Heard(settings)
        self._known: frozenset[str] = frozenset()
        self._known_until = 0.0
        with settings_checked():
            super().__init__(settings.client(error_cb=self._heard), logger=_LOG)

    @property
    def refusal(self) -> KafkaError | None:
        """How a broker refused this client, if one did."""
        return self._heard.refusal

    def topics(self) -> ClusterMetadata:
        """The brokers and topics of the cluster. Raises Fatal or Retryable."""
        doing = "listing topics"
        try:
            found = self.list_topics(timeout=self.timeout_seconds)
        except KafkaException as error:
            self.poll(0)
            away = as_error(error.args[0], doing)
            away.__cause__ = error
            raise self._heard.explained(away, doing) from error
        self._known, self._known_until = frozenset(found.topics), time.monotonic() + _KNOWN_SECONDS
        return found

    def know_leaders(self, topics: Iterable[str]) -> None:
        """Before `list_offsets` of these topics. Raises Fatal or Retryable.

        librdkafka's `list_offsets` looks for the leaders in what it knows of the cluster. Where it has to ask for them,
        the thread of the caller goes on using a request that the thread of the client may already have ended and
        freed: a segmentation fault, seen once on a busy machine. Where it knows the leaders, it does not wait.
        """
        if time.monotonic() >= self._known_until or not self._known.issuperset(topics):
            self.topics()

    def answer(self, future: Future[T], doing: str) -> T:
        """What was asked for. Raises Fatal or Retryable."""
        begun = time.monotonic()
        while True:
            try:
                return future.result(_LISTEN_SECONDS)
            except KafkaException as error:
                self.poll(0)
                found = as_error(error.args[0], doing)
                found.__cause__ = error
                raise self._heard.explained(found, doing) from error
            except TimeoutError as error:
                self.poll(0)
                waited = time.monotonic() - begun
                if waited > self.timeout_seconds + 5.0 or self._heard.gives_up(waited):
                    away = Retryable(f"Kafka, {doing}: no answer in time")
                    away.__cause__ = KafkaException(KafkaError(KafkaError._TIMED_OUT))
                    raise self._heard.explained(away, doing) from error


_KEPT: ContextVar[tuple[KafkaSettings, Admin] | None] = ContextVar("kept_admin", default=None)


@contextmanager
def kept_admin(settings: KafkaSettings, admin: Admin | None = None) -> Iterator[Admin]:
    """Within it, and in this thread, one connection answers every question about this cluster (see admin_for): `admin`,
    or a new one."""
    admin = admin or Admin(settings)
    token = _KEPT.set((settings, admin))
    try:
        yield admin
    finally:
        _KEPT.reset(token)


def admin_for(settings: KafkaSettings) -> Admin:
    """The one of `kept_admin`, else a new one: connecting and signing in costs as much as ten questions."""
    kept = _KEPT.get()
    return kept[1] if kept is not None and kept[0] == settings else Admin(settings)
