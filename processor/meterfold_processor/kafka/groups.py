"""Who is in a consumer group, as its coordinator sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError
from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]  # not in its stubs

from meterfold_processor.kafka.admin import admin_for
from meterfold_processor.kafka.errors import kafka_code
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.settings import KafkaSettings

__all__ = ["LONGEST_SESSION_SECONDS", "Member", "members", "session_seconds"]

_CALL_SECONDS: Final = 6.0
"""Workers ask, and a worker has to stop within 10 s."""
LONGEST_SESSION_SECONDS: Final = 60.0
"""Kafka's default for group.consumer.max.session.timeout.ms."""
#: There is no such group, or this broker or client cannot describe groups of the newer protocol.
_NOBODY: Final = frozenset(
    {KafkaError.GROUP_ID_NOT_FOUND, KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE}
)


@dataclass(frozen=True, slots=True)
class Member:
    """A member stays listed after it died until its session times out."""

    client_id: str
    host: str


def members(settings: KafkaSettings, group_id: str) -> tuple[Member, ...]:
    """The members now; none where the broker knows or describes no such group. Raises Retryable or Fatal."""
    admin = admin_for(settings)
    future = admin.describe_consumer_groups([group_id], request_timeout=_CALL_SECONDS)[group_id]
    try:
        described = admin.answer(future, f"describing the group {group_id}")
    except MeterfoldError as error:
        if kafka_code(error) in _NOBODY:
            return ()
        raise
    return tuple(Member(member.client_id, member.host) for member in described.members)


def session_seconds(settings: KafkaSettings, group_id: str) -> float:
    """After how many seconds without a sign of life the broker removes a member of the newer protocol."""
    admin = admin_for(settings)
    resource = ConfigResource(ResourceType.GROUP, group_id)
    future = admin.describe_configs([resource], request_timeout=_CALL_SECONDS)[resource]
    try:
        found = admin.answer(future, f"reading the settings of the group {group_id}")
        return int(found["consumer.session.timeout.ms"].value) / 1000
    except (MeterfoldError, KeyError, ValueError):
        # Older brokers do not tell, and reading it may not be allowed.
        return LONGEST_SESSION_SECONDS
