"""The admin client that asks Kafka about topics and groups, with errors of our own tree."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from meterfold_processor.kafka import as_error
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import KafkaSettings

__all__ = ["TIMEOUT_SECONDS", "Admin", "kafka_code"]

T = TypeVar("T")

_LOG = logging.getLogger("meterfold.kafka")

TIMEOUT_SECONDS: Final = 15.0
_LISTEN_SECONDS: Final = 0.1


class Admin(AdminClient):
    """An admin client that hears when its credentials are refused: by itself it would only run out of time."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._refused: list[KafkaError] = []
        super().__init__(settings.client(error_cb=self._heard), logger=_LOG)

    def _heard(self, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTHENTICATION:
            self._refused.append(error)

    def answer(self, future: Future[T], doing: str) -> T:
        """What was asked for. Raises Fatal or Retryable."""
        until = time.monotonic() + TIMEOUT_SECONDS + 5.0
        while True:
            try:
                return future.result(_LISTEN_SECONDS)
            except KafkaException as error:
                raise as_error(error.args[0], doing) from error
            except TimeoutError as error:
                self.poll(0)
                if self._refused:
                    raise as_error(self._refused[0], doing) from error
                if time.monotonic() > until:
                    raise Retryable(f"Kafka, {doing}: no answer in time") from error


def kafka_code(error: Exception) -> int | None:
    """Kafka's code behind an error of ours."""
    cause: Any = error.__cause__
    return cause.args[0].code() if isinstance(cause, KafkaException) else None
