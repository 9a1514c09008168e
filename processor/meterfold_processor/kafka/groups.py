"""Consumer groups as their coordinators see them: the members, and the offsets that were committed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ConfigResource, ResourceType

from meterfold_processor.kafka import clients
from meterfold_processor.kafka.admin import TIMEOUT_SECONDS, admin_for
from meterfold_processor.kafka.errors import as_error, kafka_code
from meterfold_processor.kafka.offsets import Place, at
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics

__all__ = [
    "LONGEST_SESSION_SECONDS",
    "CommittedOffsets",
    "Group",
    "Member",
    "members",
    "read_groups",
    "session_seconds",
]

_CALL_SECONDS: Final = 6.0
"""Workers ask, and a worker has to stop within 10 s."""
LONGEST_SESSION_SECONDS: Final = 60.0
"""Kafka's default for group.consumer.max.session.timeout.ms."""
#: The group does not exist, or this broker or client cannot describe groups of the newer protocol.
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
    with closing(CommittedOffsets(settings, group_id, _CALL_SECONDS)) as offsets:
        return _members(settings, offsets)


def _members(settings: KafkaSettings, offsets: CommittedOffsets) -> tuple[Member, ...]:
    offsets.require_coordinator()
    group_id, admin = offsets.group_id, admin_for(settings)
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


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group. `state` is None where the broker does not know it; `members` where the broker cannot describe
    it to this client."""

    name: str
    state: str | None = None
    members: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it has no consumer, as far as the broker knows."""
        return self.state is None or self.state.lower() in ("empty", "dead")


def read_groups(settings: KafkaSettings, groups: Sequence[CommittedOffsets]) -> list[Group]:
    """The groups whose offsets these read, in their order. Raises Retryable or Fatal."""
    admin = admin_for(settings)
    future = admin.list_consumer_groups(request_timeout=admin.timeout_seconds)
    states = {group.group_id: group.state.name for group in admin.answer(future, "listing groups").valid}
    return [
        Group(
            offsets.group_id,
            states.get(offsets.group_id),
            _count(settings, offsets) if offsets.group_id in states else 0,
        )
        for offsets in groups
    ]


def _count(settings: KafkaSettings, offsets: CommittedOffsets) -> int | None:
    try:
        return len(_members(settings, offsets))
    except MeterfoldError:
        return None


class CommittedOffsets:
    """The committed offsets of one group; joins nothing. For one thread. `read` raises Retryable or Fatal."""

    def __init__(self, settings: KafkaSettings, group_id: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        # Not through the admin client: librdkafka crashes there when the group's coordinator is not ready
        # (confluent-kafka-python issue 1982).
        self._consumer: Consumer = clients.consumer(settings, group_id, "classic")
        self._timeout_seconds = timeout_seconds
        self._any_place = at(Topics(settings.topic_prefix).usage_windows, 0)
        self.group_id = group_id

    def read(self, places: Iterable[Place]) -> dict[Place, int]:
        """The next offset of each place; no entry where nothing is committed. Pending transactions are waited for."""
        wanted = [at(*place) for place in places]
        if not wanted:
            return {}
        doing = f"reading the offsets of group {self.group_id}"
        for place in (found := self._ask(wanted, doing)):
            if place.error is not None:
                raise as_error(place.error, doing)
        return {Place(place.topic, place.partition): place.offset for place in found if place.offset >= 0}

    def require_coordinator(self) -> None:
        """Raises Retryable or Fatal unless the group's coordinator answers.

        To describe a group whose coordinator goes away ends the whole process: librdkafka fails an assertion (its pull
        request 5397). A request for committed offsets goes to the same broker and only fails.
        """
        self._ask([self._any_place], f"looking for the coordinator of the group {self.group_id}")

    def close(self) -> None:
        self._consumer.close()

    def _ask(self, places: list[TopicPartition], doing: str) -> list[TopicPartition]:
        try:
            return self._consumer.committed(places, self._timeout_seconds)
        except KafkaException as error:
            raise as_error(error.args[0], doing) from error
