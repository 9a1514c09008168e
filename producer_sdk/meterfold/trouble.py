"""The last trouble of the client: what librdkafka said about brokers that it cannot reach or that refuse it."""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import KafkaError

from meterfold.log import client_logger, logger
from meterfold_schemas.kafka_refusals import REFUSALS

__all__ = ["Trouble"]

_RECENT_SECONDS: Final = 30.0


class Trouble:
    """Any thread may call anything: a text is replaced as a whole."""

    def __init__(self) -> None:
        self.current: str | None = None
        self._last: str | None = None
        self._refused_at = -_RECENT_SECONDS
        self._logged: set[str] = set()

    def heard(self, error: KafkaError) -> None:
        """librdkafka reports an error of the client as a whole."""
        text, code = error.str(), error.code()
        if code == KafkaError._ALL_BROKERS_DOWN and self.current is not None:
            return  # follows each cause, and says less
        now = time.monotonic()
        if error.name() in REFUSALS:
            # An error in the log and not a mere warning: trying again does not help.
            self._refused_at = now
            if text not in self._logged:
                self._logged.add(text)
                logger.error(
                    "Kafka refuses this client: %s. Events wait in the buffer and fail after delivery_timeout; check "
                    "the SASL and TLS settings under [kafka.librdkafka] (METERFOLD_KAFKA_...)",
                    text,
                )
        else:
            client_logger.warning("%s", text)
            if self.current is not None and now - self._refused_at < _RECENT_SECONDS:
                return  # one address refuses the password, another the connection: the first has to be mended
        self.current = self._last = text

    def over(self) -> None:
        """An event was delivered."""
        self.current = None
        self._logged.clear()

    def after(self, text: str) -> str:
        """`text` with the last trouble behind it, for the error of an event that was not delivered."""
        return f"{text}; the last trouble was: {self._last}" if self._last and self._last not in text else text
