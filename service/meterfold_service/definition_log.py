"""Where definitions are read and written: the compacted topics of metrics and thresholds, which are the truth.

A change is decided by what both topics say, and published in a transaction of one transactional id that all writers
share. Whoever takes that id over fences the writer before, so of two that have read the same state one commits; the
other one reads again, and sees the winner's definition. A definition's version is its offset.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar

from meterfold_processor.checker.definitions import DefinitionRecord, Definitions, DefinitionsRead
from meterfold_processor.checker.transactions import FencedOut, Transactions
from meterfold_processor.kafka.clients import Outgoing
from meterfold_processor.kafka.reader import PROMPT, Place, TopicReader
from meterfold_schemas import cloudevents
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.errors import Retryable
from meterfold_schemas.topics import METRIC_DEFINED, THRESHOLD_DEFINED, Topics
from meterfold_service.errors import CheckerNotRunning, DefinitionsBusy
from meterfold_sink.definitions import shown_metric_version, shown_threshold_version

if TYPE_CHECKING:
    from confluent_kafka import Message

    from meterfold_schemas.settings import KafkaSettings
    from meterfold_sink.pool import ClientPool

__all__ = ["WAIT_SECONDS", "DefinitionLog"]

WAIT_SECONDS: Final = 30.0
"""How long an operation waits until ClickHouse shows what it has published."""
_CALL_SECONDS: Final = 15.0
_BUSY_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.03
_POLL_SECONDS: Final = 0.005
_NAME: Final = "meterfold-definitions"
_SOURCE: Final = "/meterfold/definitions"

D = TypeVar("D", MetricDefinition, UsageThreshold)


class _Unclear(Exception):
    """A commit failed, or the answer to it was lost: whether it happened is known once the id is taken over."""

    def __init__(self, definition: Any, outgoing: Outgoing, ends: dict[Place, int], cause: Retryable) -> None:
        super().__init__(str(cause))
        self.definition = definition
        self.outgoing = outgoing
        self.ends = ends
        self.cause = cause


class DefinitionLog:
    """For any thread. Methods raise Retryable or Fatal, and what their `decide` raises.

    `decide` gets the definitions as they are, and is called again when another writer was first.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        clients: ClientPool,
        wait_seconds: float = WAIT_SECONDS,
        call_seconds: float | None = None,
    ) -> None:
        """`call_seconds`: how long Kafka may take to answer a call."""
        self._call_seconds = call_seconds or _CALL_SECONDS
        self._kafka = kafka
        self._clients = clients
        self._topics = Topics(kafka.topic_prefix)
        self._wait_seconds = wait_seconds
        self._one_writer = Lock()  # threads of one process queue up instead of fencing each other

    def read(self) -> Definitions:
        """Both topics as they are now."""
        reader = TopicReader(self._kafka, _NAME, PROMPT)
        try:
            return self._read(reader, self._ends(reader))
        finally:
            reader.close()

    def define(self, decide: Callable[[Definitions], D]) -> D:
        """Publish the definition that `decide` returns, and return it with its version once ClickHouse shows it. One
        that has a version already is only waited for."""

        def message(definition: D) -> Outgoing | None:
            return self._message(definition, definition.to_bytes()) if definition.version < 0 else None

        definition, offset = self._publish(decide, message)
        if offset is not None:
            definition = definition.changed(version=offset)
        self._wait(definition, definition.version)
        return definition

    def delete(self, decide: Callable[[Definitions], D]) -> None:
        """Publish the tombstone of the definition that `decide` returns, and wait until ClickHouse shows it."""
        definition, offset = self._publish(decide, lambda definition: self._message(definition, None))
        assert offset is not None
        self._wait(definition, offset)

    def _publish(
        self, decide: Callable[[Definitions], D], message: Callable[[D], Outgoing | None]
    ) -> tuple[D, int | None]:
        """What `decide` returned, and the offset of its message; None where it has none."""
        until = time.monotonic() + _BUSY_SECONDS
        unclear: _Unclear | None = None
        with self._one_writer:
            while True:
                try:
                    return self._publish_once(decide, message, unclear)
                except _Unclear as error:
                    if time.monotonic() > until:
                        raise error.cause from None
                    unclear = error
                except FencedOut:
                    if time.monotonic() > until:
                        raise DefinitionsBusy(_BUSY_SECONDS) from None
                # Two writers that fence each other in turn must fall out of step.
                time.sleep(random.uniform(0, 0.3))

    def _publish_once(
        self,
        decide: Callable[[Definitions], D],
        message: Callable[[D], Outgoing | None],
        unclear: _Unclear | None,
    ) -> tuple[D, int | None]:
        """`unclear`: a commit before this one, which may have happened. Raises _Unclear where this one's may have."""
        reader = TopicReader(self._kafka, _NAME, PROMPT)
        transaction = Transactions(self._kafka, f"{self._kafka.topic_prefix}{_NAME}")
        try:
            ends: dict[Place, int] = {}
            if unclear is None:  # a call that has nothing to publish ends here, and fences nobody
                ends = self._ends(reader)
                definition = decide(self._read(reader, ends))
                if (outgoing := message(definition)) is None:
                    return definition, None
            transaction.prepare()
            # From here on no other caller can commit, and what was begun before is settled. It is read, so that it is
            # decided upon.
            now = self._ends(reader)
            if unclear is not None and (offset := self._offset(unclear, reader, now)) is not None:
                return unclear.definition, offset
            if now != ends:
                ends = now
                definition = decide(self._read(reader, ends))
                if (outgoing := message(definition)) is None:
                    return definition, None
            assert outgoing is not None
            transaction.begin()
            transaction.produce([outgoing])
            transaction.flush()
            try:
                transaction.commit()
            except Retryable as error:
                raise _Unclear(definition, outgoing, ends, error) from error
            return definition, self._read_back(outgoing, reader, ends)
        finally:
            transaction.close()
            reader.close()

    def _read_back(self, outgoing: Outgoing, reader: TopicReader, ends: dict[Place, int]) -> int:
        """The offset of a committed message: as every reader finds it."""
        place = Place(outgoing.topic, outgoing.partition)
        until = time.monotonic() + _CALL_SECONDS
        while time.monotonic() < until:
            for message in reader.poll()[place]:
                if _is(message, outgoing, ends[place]):
                    return message.offset() or 0
            time.sleep(_POLL_SECONDS)
        raise Retryable(
            f"the definition is published to {outgoing.topic}, but could not be read back in {_CALL_SECONDS:g} s: "
            "repeat the operation, which is safe"
        )

    def _offset(self, unclear: _Unclear, reader: TopicReader, ends: dict[Place, int]) -> int | None:
        """Where the message of a commit that may have happened is; None if it has not happened."""
        place = Place(unclear.outgoing.topic, unclear.outgoing.partition)
        begin = unclear.ends[place]
        for messages in reader.scan({place: begin}, {place: ends[place]}):
            for message in messages:
                if _is(message, unclear.outgoing, begin):
                    return message.offset()
        return None

    def _message(self, definition: D, value: bytes | None) -> Outgoing:
        if isinstance(definition, MetricDefinition):
            topic, event_type, subject = self._topics.metric_defined, METRIC_DEFINED, definition.key
        else:
            topic, event_type, subject = self._topics.threshold_defined, THRESHOLD_DEFINED, definition.id
        if value is None:  # a tombstone is no event
            return Outgoing(topic, None, definition.message_key, 0)
        headers = cloudevents.headers(event_type, definition.event_id, _SOURCE, definition.updated_at, subject)
        return Outgoing(topic, value, definition.message_key, 0, headers)

    def _ends(self, reader: TopicReader) -> dict[Place, int]:
        return reader.ends((self._topics.metric_defined, self._topics.threshold_defined), self._call_seconds)

    def _read(self, reader: TopicReader, ends: dict[Place, int]) -> Definitions:
        found = reader.read(ends, lambda: None)
        records = []
        for place, messages in found.items():
            kind: Any = "metric" if place.topic == self._topics.metric_defined else "threshold"
            records += [DefinitionRecord(kind, m.key() or b"", m.value(), m.offset() or 0) for m in messages]
        definitions = Definitions()
        definitions.apply(DefinitionsRead(tuple(records), *(reader.positions[place] for place in ends)))
        return definitions

    def _wait(self, definition: MetricDefinition | UsageThreshold, version: int) -> None:
        """Until ClickHouse has this version or a newer one."""
        until = time.monotonic() + self._wait_seconds
        with self._clients.client() as client:
            while True:
                if isinstance(definition, MetricDefinition):
                    shown = shown_metric_version(client, definition.org_id, definition.key)
                    name = " ".join(filter(None, (definition.org_id, definition.key)))
                else:
                    shown = shown_threshold_version(client, definition.id)
                    name = definition.id
                if shown is not None and shown >= version:
                    return
                if time.monotonic() >= until:
                    raise CheckerNotRunning(name, version, self._wait_seconds)
                time.sleep(_LOOK_SECONDS)


def _is(message: Message, outgoing: Outgoing, begin: int) -> bool:
    """Whether this is the message that was produced. A tombstone has no id: any later one of its key is as good."""
    at_or_after = (message.offset() or 0) >= begin
    return at_or_after and (message.key(), message.value()) == (outgoing.key, outgoing.value)
