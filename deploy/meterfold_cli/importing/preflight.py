"""Check the connection to Kafka before a file is read: within five seconds, and with the cause if it fails."""

from __future__ import annotations

import logging
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from meterfold_processor.kafka.errors import settings_checked
from meterfold_schemas.errors import Fatal, InvalidSettings, Retryable
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics

__all__ = ["require_kafka"]

#: Short attempts first: refused credentials show only between them. The last one is for a slow network.
_ATTEMPTS_SECONDS: Final = (0.5, 1.0, 2.5)
# librdkafka writes to standard error unless it has a logger.
_quiet = logging.getLogger("meterfold.librdkafka")
#: Errors that a retry with the same settings cannot fix.
_HOPELESS: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
    }
)


def require_kafka(settings: KafkaSettings) -> None:
    """Raises InvalidSettings for refused credentials, Retryable if no broker answers, Fatal if the topic is missing."""
    # Only this callback gets the error for refused credentials; the call itself times out.
    trouble: list[KafkaError] = []
    with settings_checked():
        client = AdminClient(settings.client(error_cb=trouble.append), logger=_quiet)
    topic = Topics(settings.topic_prefix).usage_recorded
    for seconds in _ATTEMPTS_SECONDS:
        try:
            listed = client.list_topics(timeout=seconds)
        except KafkaException as error:
            client.poll(0)
            _raise_hopeless(settings, trouble)
            if seconds != _ATTEMPTS_SECONDS[-1]:
                continue
            cause = next((e for e in reversed(trouble) if e.code() != KafkaError._ALL_BROKERS_DOWN), error.args[0])
            raise Retryable(
                f"Kafka at {settings.bootstrap_servers} does not answer: {cause.str()}. Nothing was sent; check "
                "bootstrap_servers, or import again when Kafka is available"
            ) from None
        if topic not in listed.topics:
            raise Fatal(f"Kafka at {settings.bootstrap_servers} has no topic {topic}: run `meterfold migrate` first")
        return


def _raise_hopeless(settings: KafkaSettings, trouble: list[KafkaError]) -> None:
    for error in trouble:
        if error.code() in _HOPELESS:
            raise InvalidSettings(
                f"Kafka at {settings.bootstrap_servers} refuses the connection: {error.str()}. Nothing was sent; check "
                "the SASL and TLS settings under [kafka.librdkafka]"
            )
