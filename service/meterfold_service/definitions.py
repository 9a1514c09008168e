"""Define metrics and thresholds: publish to the compacted topics, and wait until ClickHouse shows it.

The topics are the truth, so a command reads them as a whole first; a definition's version is its offset there. The same
command with the same content changes nothing. Of two commands at the same moment the later one on the topic wins.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from meterfold_processor.checker.definitions import DefinitionRecord, Definitions, DefinitionsRead
from meterfold_processor.kafka import clients, errors
from meterfold_processor.kafka.reader import TopicReader
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold, default_warn_threshold
from meterfold_schemas.errors import InvalidDefinition, MeterfoldError, Retryable
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_service.metrics import changes as metric_changes
from meterfold_service.metrics import words as metric_words
from meterfold_service.metrics.changes import MetricChange
from meterfold_service.thresholds import words as threshold_words
from meterfold_sink.client import connect
from meterfold_sink.metric_usage import metric_usage
from meterfold_sink.thresholds import WatchedSubjects, watched_subjects

__all__ = ["WAIT_SECONDS", "CheckerNotRunning", "DefinitionCommands", "DefinitionRefused"]

_LOG = logging.getLogger("meterfold.definitions")

WAIT_SECONDS: Final = 30.0
"""How long a command waits until ClickHouse shows what it has published."""
_DELIVERY_SECONDS: Final = 20.0
_CALL_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 0.03
_OWN: Final = frozenset({"id", "created_at", "updated_at", "version"})
_FIXED: Final = frozenset({"org_id", "metric_key", "subject_type", "subject_id", "period_type"})

D = TypeVar("D", MetricDefinition, UsageThreshold)


class DefinitionRefused(MeterfoldError):
    """METRIC_KEY_EXISTS, METRIC_NOT_FOUND, THRESHOLD_EXISTS or THRESHOLD_NOT_FOUND."""

    code = "METRIC_NOT_FOUND"


class CheckerNotRunning(Retryable):
    """The definition is published and will apply; ClickHouse does not show it, since no checker mirrors it."""

    code = "CHECKER_NOT_RUNNING"


class DefinitionCommands:
    """The commands of metrics and thresholds. Raises DefinitionRefused, InvalidDefinition, Retryable or Fatal."""

    def __init__(
        self,
        kafka_settings: KafkaSettings,
        clickhouse_settings: ClickHouseSettings,
        *,
        wait_seconds: float = WAIT_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kafka = kafka_settings
        self._clickhouse = clickhouse_settings
        self._topics = Topics(kafka_settings.topic_prefix)
        self._wait_seconds = wait_seconds
        self._now = now

    def define_metric(self, **values: Any) -> MetricDefinition:
        """metric.define: key, name, unit and what else a MetricDefinition has. METRIC_KEY_EXISTS where the key has
        another content."""
        wanted = _made(MetricDefinition, values, self._now())
        known = self._read().own_metric(wanted.org_id, wanted.key)
        if known is None:
            return self._publish_metric(wanted)
        if _content(known) == _content(wanted):
            return self._shown(known)
        raise DefinitionRefused(metric_words.exists(known, wanted, values.keys()), code="METRIC_KEY_EXISTS")

    def update_metric(self, key: str, org_id: str = "", **changes: Any) -> MetricDefinition:
        """metric.update: any field but key and org_id. METRIC_NOT_FOUND."""
        _refuse_fields(changes, _OWN | {"key", "org_id"})
        known = _metric(self._read(), key, org_id)
        wanted = known.changed(**changes, updated_at=self._now())
        return self._shown(known) if _content(known) == _content(wanted) else self._publish_metric(wanted)

    def delete_metric(self, key: str, org_id: str = "") -> None:
        """metric.delete: the usage stays, thresholds on it stop. METRIC_NOT_FOUND."""
        known = _metric(self._read(), key, org_id)
        offset = self._publish(self._topics.metric_defined, known.message_key, None)
        self._wait("metric_definitions", {"org_id": org_id, "key": key}, offset)

    def preview_define(self, **values: Any) -> MetricChange | None:
        """What define_metric would change for usage that exists: an organization's own definition hides the one for
        every organization. None where nothing is hidden."""
        wanted = _made(MetricDefinition, values, self._now())
        definitions = self._read()
        before = definitions.metric(wanted.org_id, wanted.key)
        if before is None or before.org_id == wanted.org_id:
            return None
        return self._preview(definitions, wanted.org_id, before, wanted)

    def preview_update(self, key: str, org_id: str = "", **changes: Any) -> MetricChange:
        """What update_metric would change for usage that exists. METRIC_NOT_FOUND."""
        _refuse_fields(changes, _OWN | {"key", "org_id"})
        definitions = self._read()
        known = _metric(definitions, key, org_id)
        return self._preview(definitions, org_id, known, known.changed(**changes))

    def preview_delete(self, key: str, org_id: str = "") -> MetricChange:
        """What delete_metric would change for usage that exists. METRIC_NOT_FOUND."""
        definitions = self._read()
        known = _metric(definitions, key, org_id)
        return self._preview(definitions, org_id, known, definitions.own_metric("", key) if org_id else None)

    def _preview(
        self, definitions: Definitions, org_id: str, before: MetricDefinition, after: MetricDefinition | None
    ) -> MetricChange:
        except_orgs = () if org_id else metric_changes.hiding(definitions, before.key)
        with connect(self._clickhouse) as client:
            usage = metric_usage(client, before.key, org_id or None, except_orgs)
        resting, judging = metric_changes.affected_thresholds(definitions, before.key, org_id, before, after)
        example = metric_changes.example_of(usage.newest.to_pylist(), before, after)
        return MetricChange(before, after, usage, example, resting, judging)

    def create_threshold(self, *, metric_key: str, org_id: str | None = None, **values: Any) -> UsageThreshold:
        """threshold.create: as the entity, without id and times. METRIC_NOT_FOUND, THRESHOLD_EXISTS, PERIOD_NOT_KEPT.

        `org_id` None is every organization, and needs a metric of every organization.
        """
        definitions = self._read()
        metric = definitions.metric(org_id or "", metric_key)
        if metric is None:
            raise DefinitionRefused(
                threshold_words.no_metric_to_watch(metric_key, org_id, definitions.metrics()), code="METRIC_NOT_FOUND"
            )
        _refuse_fields(values, _OWN)
        now = self._now()
        own = {"id": str(uuid.uuid4()), "org_id": org_id, "created_at": now, "updated_at": now}
        wanted = UsageThreshold.for_metric(metric, **values, **own)
        same = _same_names(definitions, wanted)
        for known in same:
            if _content(known) == _content(wanted):
                return self._shown(known)
        if same:
            raise DefinitionRefused(threshold_words.exists(same[0], wanted, values.keys()), code="THRESHOLD_EXISTS")
        return self._publish_threshold(wanted)

    def watched_subjects(self, threshold: UsageThreshold) -> WatchedSubjects:
        """How many of the subjects that have used the metric the threshold judges now, as ClickHouse knows it."""
        with connect(self._clickhouse) as client:
            return watched_subjects(client, threshold.id)

    def update_threshold(self, threshold_id: str, **changes: Any) -> UsageThreshold:
        """threshold.update: any field but metric, subject and period. A warn threshold that was never given follows
        the threshold. THRESHOLD_NOT_FOUND, THRESHOLD_EXISTS where another one has the new name."""
        _refuse_fields(changes, _OWN | _FIXED)
        definitions = self._read()
        known = _threshold(definitions, threshold_id)
        follows = known.warn_threshold == default_warn_threshold(known.threshold)
        if "threshold" in changes and follows:
            changes.setdefault("warn_threshold", None)
        wanted = known.changed(**changes, updated_at=self._now())
        if _content(known) == _content(wanted):
            return self._shown(known)
        if wanted.name != known.name and (same := _same_names(definitions, wanted)):
            raise DefinitionRefused(threshold_words.name_taken(same[0]), code="THRESHOLD_EXISTS")
        return self._publish_threshold(wanted)

    def delete_threshold(self, threshold_id: str) -> None:
        """threshold.delete. THRESHOLD_NOT_FOUND."""
        known = _threshold(self._read(), threshold_id)
        offset = self._publish(self._topics.threshold_defined, known.message_key, None)
        self._wait("thresholds", {"id": threshold_id}, offset)

    def _publish_metric(self, metric: MetricDefinition) -> MetricDefinition:
        offset = self._publish(self._topics.metric_defined, metric.message_key, metric.to_bytes())
        return self._shown(metric.changed(version=offset))

    def _publish_threshold(self, threshold: UsageThreshold) -> UsageThreshold:
        offset = self._publish(self._topics.threshold_defined, threshold.message_key, threshold.to_bytes())
        return self._shown(threshold.changed(version=offset))

    def _shown(self, definition: D) -> D:
        """The definition once ClickHouse has it."""
        if isinstance(definition, MetricDefinition):
            name = {"org_id": definition.org_id, "key": definition.key}
            self._wait("metric_definitions", name, definition.version)
        else:
            self._wait("thresholds", {"id": definition.id}, definition.version)
        return definition

    def _wait(self, table: str, name: dict[str, str], version: int) -> None:
        condition = " AND ".join(f"{column} = {{{column}:String}}" for column in name)
        sql = f"SELECT max(version) AS version, count() AS found FROM {table} WHERE {condition}"  # noqa: S608
        until = time.monotonic() + self._wait_seconds
        with connect(self._clickhouse) as client:
            while True:
                row = client.rows(sql, dict(name))[0]
                if row["found"] and row["version"] >= version:
                    return
                if time.monotonic() >= until:
                    shown = " ".join(filter(None, name.values()))
                    raise CheckerNotRunning(
                        f"{shown} is published (offset {version}), but ClickHouse does not show it "
                        f"after {self._wait_seconds:g} s: the checker is not running; start it with `meterfold check`, "
                        "then run the command again, which does no harm"
                    )
                time.sleep(_LOOK_SECONDS)

    def _read(self) -> Definitions:
        """Both topics as they are now."""
        reader = TopicReader(self._kafka, "meterfold-definitions")
        try:
            ends = reader.ends((self._topics.metric_defined, self._topics.threshold_defined), _CALL_SECONDS)
            found = reader.read(ends, lambda: None)
            positions = [reader.positions[place] for place in ends]
        finally:
            reader.close()
        records = []
        for place, messages in found.items():
            kind: Any = "metric" if place.topic == self._topics.metric_defined else "threshold"
            records += [DefinitionRecord(kind, m.key() or b"", m.value(), m.offset() or 0) for m in messages]
        definitions = Definitions()
        definitions.apply(DefinitionsRead(tuple(records), positions[0], positions[1]))
        return definitions

    def _publish(self, topic: str, key: bytes, value: bytes | None) -> int:
        """The offset of the message, once every in-sync replica has it."""
        delivered: list[tuple[KafkaError | None, Message]] = []
        # Not idempotent, which librdkafka begins with half a second's wait: the same definition twice is the same.
        settings = {"enable.idempotence": False, "delivery.timeout.ms": int(_DELIVERY_SECONDS * 1000), "linger.ms": 0}
        producer: Producer = clients.producer(self._kafka, **settings)
        try:
            producer.produce(
                topic, value, key, 0, on_delivery=lambda error, message: delivered.append((error, message))
            )
        except KafkaException as error:
            raise errors.as_error(error.args[0], f"publishing to {topic}") from error
        producer.flush(_DELIVERY_SECONDS + 5.0)
        if not delivered:
            raise Retryable(f"Kafka did not confirm the definition on {topic} in {_DELIVERY_SECONDS:.0f} s: try again")
        error_or_none, message = delivered[0]
        if error_or_none is not None:
            raise errors.as_error(error_or_none, f"publishing to {topic}")
        return message.offset() or 0


def _made(model: type[MetricDefinition], values: dict[str, Any], now: datetime) -> MetricDefinition:
    _refuse_fields(values, _OWN)
    return model(**values, id=str(uuid.uuid4()), created_at=now, updated_at=now)


def _refuse_fields(values: dict[str, Any], fixed: frozenset[str]) -> None:
    given = sorted(fixed & values.keys())
    if given:
        raise InvalidDefinition(f"{', '.join(given)} cannot be given here")


def _threshold(definitions: Definitions, threshold_id: str) -> UsageThreshold:
    known = definitions.threshold(threshold_id)
    if known is None:
        raise DefinitionRefused(
            f"there is no threshold {threshold_id!r}; `meterfold threshold list` shows the ids",
            code="THRESHOLD_NOT_FOUND",
        )
    return known


def _same_names(definitions: Definitions, wanted: UsageThreshold) -> list[UsageThreshold]:
    """The other thresholds of the same metric, name and scope, the newest first. There is one at most, unless two were
    created at the same moment or by a version that allowed it."""
    name = (wanted.metric_key, wanted.name, wanted.scope)
    found = [
        known
        for known in definitions.watched()
        if (known.metric_key, known.name, known.scope) == name and known.id != wanted.id
    ]
    return sorted(found, key=lambda known: known.version, reverse=True)


def _content(definition: MetricDefinition | UsageThreshold) -> dict[str, Any]:
    return definition.model_dump(exclude=set(_OWN))


def _metric(definitions: Definitions, key: str, org_id: str) -> MetricDefinition:
    """The definition of exactly this organization."""
    known = definitions.own_metric(org_id, key)
    if known is None:
        raise _not_defined(definitions, key, org_id)
    return known


def _not_defined(definitions: Definitions, key: str, org_id: str) -> DefinitionRefused:
    known = [(metric.org_id, metric.key) for metric in definitions.metrics()]
    return DefinitionRefused(metric_words.not_defined(key, org_id, known), code="METRIC_NOT_FOUND")
