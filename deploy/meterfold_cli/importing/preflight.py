"""Check the connection to Kafka before a file is read: within about five seconds, and with the cause if it fails."""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaError, TopicCollection

from meterfold_processor.kafka.admin import Admin
from meterfold_processor.kafka.errors import kafka_code
from meterfold_schemas.errors import Fatal, InvalidSettings, MeterfoldError, Retryable
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics

__all__ = ["require_kafka"]

_TIMEOUT_SECONDS: Final = 5.0
_NOTHING: Final = "Nothing was sent"


def require_kafka(settings: KafkaSettings) -> str:
    """The id of the topic, which changes when it is made again. Raises InvalidSettings for refused credentials,
    Retryable if no broker answers, Fatal if the topic is missing."""
    admin = Admin(settings, timeout_seconds=_TIMEOUT_SECONDS)
    topic = Topics(settings.topic_prefix).usage_recorded
    try:
        asked = admin.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT_SECONDS)
        return str(admin.answer(asked[topic], "looking for the topic").topic_id)
    except MeterfoldError as error:
        servers = settings.bootstrap_servers
        if admin.refusal is not None:
            raise InvalidSettings(
                f"Kafka at {servers} refuses the connection: {admin.refusal.str()}. {_NOTHING}; check the SASL and TLS "
                "settings under [kafka.librdkafka]"
            ) from None
        if kafka_code(error) == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise Fatal(f"Kafka at {servers} has no topic {topic}: run `meterfold migrate` first") from None
        if isinstance(error, Retryable):
            raise Retryable(f"{error}. {_NOTHING}; import again when Kafka is available") from None
        raise
