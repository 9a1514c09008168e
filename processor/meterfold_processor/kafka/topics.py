"""The topics: created where they are missing, checked where they exist, and what tells one apart from another.

A difference that would lose or double events is refused with a clear word, and nothing is changed then. What is changed
in topics that exist is their compression alone, which no event depends on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicDescription,
)

from meterfold_processor.kafka.admin import Admin, admin_for
from meterfold_processor.kafka.errors import as_error, kafka_code
from meterfold_schemas.errors import Fatal, Retryable
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics, TopicSpec
from meterfold_sink.rules import FoldRules

__all__ = [
    "SourceTopic",
    "adjust_topics",
    "ask_source",
    "check_source",
    "check_topics",
    "create_topics",
    "ensure_topics",
    "read_identity",
    "read_retentions",
    "read_source",
    "retention_seconds",
    "set_retentions",
]

_TIMEOUT: Final = 15.0
_READY_SECONDS: Final = 30.0
#: What `usage.rejected` needs beyond the message it rejects: headers, and room in the record batch.
_HEADERS_BYTES: Final = 65_536
#: Flushed windows are published in messages of up to this size.
_WINDOWS_BYTES: Final = 1_000_000
_COMPRESSION: Final = "compression.type"
_RETENTION: Final = "retention.ms"


@dataclass(frozen=True, slots=True)
class SourceTopic:
    """Which log the offsets of `usage.recorded` belong to."""

    cluster_id: str
    topic_id: str
    partition_count: int


def ensure_topics(settings: KafkaSettings, specs: Sequence[TopicSpec]) -> list[str]:
    """Create what is missing, wait until it can be used, check all of it; returns the names that were created.

    Safe to repeat and to run twice at once. Raises Retryable or Fatal.
    """
    created = create_topics(settings, specs)
    check_topics(settings, specs)
    return created


def create_topics(settings: KafkaSettings, specs: Sequence[TopicSpec]) -> list[str]:
    """Create the topics that are missing and wait until every broker knows a leader of each partition; their names."""
    admin = admin_for(settings)
    there = _describe(admin, [spec.name for spec in specs])
    missing = [spec for spec in specs if spec.name not in there]
    if not missing:
        return []
    new = [NewTopic(s.name, num_partitions=s.count, replication_factor=s.replication, config=s.config) for s in missing]
    created = []
    for name, future in admin.create_topics(new, operation_timeout=_TIMEOUT, request_timeout=_TIMEOUT).items():
        try:
            admin.answer(future, f"creating topic {name}")
            created.append(name)
        except Retryable as error:
            if kafka_code(error) != KafkaError.TOPIC_ALREADY_EXISTS:  # another migration was faster
                raise
    for broker in _brokers(admin):
        _wait_for_leaders(admin_for(settings.model_copy(update={"bootstrap_servers": broker})), missing)
    return created


def check_topics(settings: KafkaSettings, specs: Sequence[TopicSpec]) -> None:
    """Raises Fatal where a topic is missing or differs in a way that would lose or double events."""
    admin = admin_for(settings)
    names = [spec.name for spec in specs]
    there = _describe(admin, names)
    if missing := [name for name in names if name not in there]:
        raise Fatal(f"Kafka has no topic {', '.join(missing)}: run `meterfold migrate`")
    configs = _configs(admin, names)
    topics = Topics(settings.topic_prefix)
    source = configs.get(topics.usage_recorded, {})
    wrong = [
        found
        for spec in specs
        for found in _differences(spec, len(there[spec.name].partitions), configs[spec.name], source, topics)
    ]
    if wrong:
        raise Fatal(
            f"the topics do not fit: {'; '.join(wrong)}. Nothing was changed: alter or remove them and run again"
        )


def adjust_topics(settings: KafkaSettings, specs: Sequence[TopicSpec]) -> list[str]:
    """Give topics that exist the compression of their spec; the names of those that had another one.

    What was written before stays as it is stored. Raises Retryable or Fatal.
    """
    wanted = {spec.name: spec.config[_COMPRESSION] for spec in specs if _COMPRESSION in spec.config}
    return _set_everywhere(settings, _COMPRESSION, wanted)


def read_retentions(settings: KafkaSettings, names: Sequence[str]) -> dict[str, int]:
    """Topic -> milliseconds for which it keeps messages, -1 for ever. Raises Retryable or Fatal."""
    configs = _configs(admin_for(settings), names)
    return {name: int(configs[name].get(_RETENTION, -1)) for name in names}


def set_retentions(settings: KafkaSettings, wanted: Mapping[str, int]) -> list[str]:
    """Set how long topics keep messages, in milliseconds; returns the names of those that had another retention. Raises
    Retryable or Fatal."""
    return _set_everywhere(settings, _RETENTION, {name: str(milliseconds) for name, milliseconds in wanted.items()})


def _set_everywhere(settings: KafkaSettings, key: str, wanted: Mapping[str, str]) -> list[str]:
    """Set one configuration of topics (name -> value) and wait until the brokers show it; the names of those that
    differed."""
    admin = admin_for(settings)

    def differing() -> list[str]:
        configs = _configs(admin, list(wanted))
        return [name for name, value in wanted.items() if configs[name].get(key) != value]

    changed = differing() if wanted else []
    if not changed:
        return []
    resources = []
    for name in changed:
        entry = ConfigEntry(key, wanted[name], incremental_operation=AlterConfigOpType.SET)
        resources.append(ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry]))
    for resource, future in admin.incremental_alter_configs(resources, request_timeout=_TIMEOUT).items():
        admin.answer(future, f"setting {key} of {resource.name}")
    # The controller has answered; the brokers learn of it a moment later.
    until = time.monotonic() + _READY_SECONDS
    while missing := differing():
        if time.monotonic() > until:
            raise Retryable(f"Kafka, setting {key}: {', '.join(missing)} does not show it yet")
        time.sleep(0.05)
    return changed


def read_source(settings: KafkaSettings) -> SourceTopic:
    """The identity of usage.recorded. Raises Fatal when it is not there."""
    found = _source(settings)
    if found is None:
        raise Fatal(f"Kafka has no topic {Topics(settings.topic_prefix).usage_recorded}: run `meterfold migrate`")
    return found


def read_identity(settings: KafkaSettings, topic: str) -> tuple[str, int] | None:
    """The id of a topic, which another one of the same name does not have, and its number of partitions; None: there is
    no such topic. Raises Retryable or Fatal."""
    description = _describe(admin_for(settings), [topic]).get(topic)
    return None if description is None else (str(description.topic_id), len(description.partitions))


def retention_seconds(settings: KafkaSettings, topic: str) -> float | None:
    """How long a topic keeps a message after its stamp; None: for ever. Raises Retryable or Fatal."""
    milliseconds = int(_configs(admin_for(settings), [topic])[topic]["retention.ms"])
    return None if milliseconds < 0 else milliseconds / 1000


def _source(settings: KafkaSettings) -> SourceTopic | None:
    admin = admin_for(settings)
    name = Topics(settings.topic_prefix).usage_recorded
    description = _describe(admin, [name]).get(name)
    if description is None:
        return None
    cluster = admin.answer(admin.describe_cluster(request_timeout=_TIMEOUT), "asking for the cluster's id")
    return SourceTopic(str(cluster.cluster_id), str(description.topic_id), len(description.partitions))


def check_source(settings: KafkaSettings, rules: FoldRules) -> SourceTopic:
    """Raises Fatal unless usage.recorded is the very topic that the stored rules name."""
    found = _source(settings)
    name = Topics(settings.topic_prefix).usage_recorded
    if found is None:
        raise Fatal(
            f"Kafka has no topic {name}, which the stored settings name: check the address of the cluster and the "
            "topic prefix. If it was deleted, follow docs/operations.md, 'A topic was created again'"
        )
    if found.cluster_id != rules.cluster_id:
        raise Fatal(
            f"this Kafka cluster is {found.cluster_id}, the stored settings name {rules.cluster_id}: its offsets mean "
            "other events. Connect to the right cluster, or follow docs/operations.md, 'Moving to another cluster'"
        )
    _check_id(name, found.topic_id, rules)
    if found.partition_count != rules.partition_count:
        raise Fatal(
            f"{name} has {found.partition_count} partitions, the stored settings say {rules.partition_count}: subjects "
            "would stand on two partitions. Follow docs/operations.md, 'Changing the partition count'"
        )
    return found


def ask_source(admin: Admin, settings: KafkaSettings, rules: FoldRules) -> Callable[[], None]:
    """Ask whether usage.recorded is still the topic that the stored rules name. If it is, everything that was consumed
    before the question came from it: a topic that is created again gets another id.

    What is returned waits for the answer. It raises Fatal for another topic, Retryable where none is there or Kafka
    does not answer.
    """
    name = Topics(settings.topic_prefix).usage_recorded
    (future,) = admin.describe_topics(TopicCollection([name]), request_timeout=_TIMEOUT).values()
    return lambda: _check_id(name, str(admin.answer(future, f"describing topic {name}").topic_id), rules)


def _check_id(name: str, topic_id: str, rules: FoldRules) -> None:
    if topic_id != rules.topic_id:
        raise Fatal(
            f"{name} is not the topic that was folded: its id is {topic_id}, the stored settings name "
            f"{rules.topic_id}. It was deleted and created again, and new events would be taken for replays. Follow "
            "docs/operations.md, 'A topic was created again'"
        )


def _differences(
    spec: TopicSpec, partitions: int, config: Mapping[str, str], source: Mapping[str, str], topics: Topics
) -> list[str]:
    found = []
    if partitions != spec.count:
        found.append(f"{spec.name} has {partitions} partitions instead of {spec.count}")
    # Anything else in cleanup.policy would delete what is the only copy, or keep what was deleted.
    wanted = {name: spec.config[name] for name in ("cleanup.policy", "message.timestamp.type") if name in spec.config}
    for name, value in wanted.items():
        if set(config.get(name, "").split(",")) != set(value.split(",")):
            found.append(f"{spec.name} has {name}={config.get(name)} instead of {value}")
    limit = int(config.get("max.message.bytes", 0))
    if spec.name == topics.usage_recorded:
        found += _retention_differences(spec, config)
    elif spec.name == topics.usage_rejected and limit < (needed := int(source["max.message.bytes"]) + _HEADERS_BYTES):
        found.append(
            f"{spec.name} has max.message.bytes={limit}: a rejected message of the largest size would not fit with its "
            f"headers; at least {needed} are needed"
        )
    elif spec.name == topics.usage_windows and limit < _WINDOWS_BYTES:
        found.append(f"{spec.name} has max.message.bytes={limit}; at least {_WINDOWS_BYTES} are needed")
    return found


def _retention_differences(spec: TopicSpec, config: Mapping[str, str]) -> list[str]:
    """A shorter retention costs only what was not read in time; a longer one outlives the memory of identities."""
    kept, allowed = int(config.get("retention.ms", -1)), int(spec.config["retention.ms"])
    if 0 <= kept <= allowed:
        return []
    return [
        f"{spec.name} keeps its events for {'ever' if kept < 0 else f'{kept} ms'}, longer than the source retention of "
        f"{allowed} ms: a retry read after that could count twice"
    ]


def _describe(admin: Admin, names: Sequence[str]) -> dict[str, TopicDescription]:
    """Those of the topics that exist."""
    found = {}
    futures = admin.describe_topics(TopicCollection(list(names)), request_timeout=_TIMEOUT)
    for name, future in futures.items():
        try:
            found[name] = admin.answer(future, f"describing topic {name}")
        except Retryable as error:
            if kafka_code(error) != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
    return found


def _configs(admin: Admin, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    futures = admin.describe_configs(resources, request_timeout=_TIMEOUT)
    return {
        resource.name: {
            name: entry.value
            for name, entry in admin.answer(future, f"reading the settings of {resource.name}").items()
        }
        for resource, future in futures.items()
    }


def _brokers(admin: Admin) -> list[str]:
    """host:port of each broker that is up."""
    try:
        return [f"{broker.host}:{broker.port}" for broker in admin.list_topics(timeout=_TIMEOUT).brokers.values()]
    except KafkaException as error:
        raise as_error(error.args[0], "listing the brokers") from error


def _wait_for_leaders(admin: Admin, specs: Sequence[TopicSpec]) -> None:
    """The controller has answered; each broker learns of a new topic a moment later, and a client may ask any. Another
    that was asked too early would say that a topic made a moment ago is missing."""
    end = time.monotonic() + _READY_SECONDS
    while True:
        there = _describe(admin, [spec.name for spec in specs])
        waiting = [spec.name for spec in specs if spec.name not in there or not _led(there[spec.name])]
        if not waiting:
            return
        if time.monotonic() > end:
            raise Retryable(f"Kafka, creating topics: no leader yet for {', '.join(waiting)}")
        time.sleep(0.05)


def _led(description: TopicDescription) -> bool:
    return bool(description.partitions) and all(
        partition.leader is not None and partition.leader.id >= 0 for partition in description.partitions
    )
