"""Reads topics without a group, as a read_committed consumer sees them.

An offset without a message is a transaction's marker, an aborted record, or one that compaction or retention removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import is_, itemgetter
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message

from meterfold_processor.kafka import clients, errors
from meterfold_processor.kafka.offsets import Place, at, log_edge
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import KafkaSettings

__all__ = ["BULK", "HEADS", "PROMPT", "STUCK_SECONDS", "Place", "TopicReader", "open_transaction"]

_CHUNK: Final = 10_000
_WAIT: Final = 0.2
_CALL_SECONDS: Final = 2.0
STUCK_SECONDS: Final = 60.0
"""Reading is given up after this long without progress, and tried again later. An open transaction blocks readers for
its timeout at most, which is shorter, unless the broker has lost the transaction's end."""

PROMPT: Final[Mapping[str, Any]] = {"fetch.wait.max.ms": 5}
"""Settings of a reader that is not polled at the end of a topic. A broker answers one request of a connection after the
other, so a fetch that waits for more messages, by default for 0.1 s, delays what comes after it: the bounds, and the
next fetch."""
BULK: Final[Mapping[str, Any]] = {
    **PROMPT,
    "fetch.message.max.bytes": 4_000_000,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
    "fetch.queue.backoff.ms": 20,  # a full queue is empty long before the default of a second is over
}
"""Settings of a reader of many messages."""
HEADS: Final[Mapping[str, Any]] = {
    **PROMPT,
    "fetch.message.max.bytes": 65_536,
    "queued.min.messages": 1,
    "fetch.queue.backoff.ms": 5,  # one message is all of the queue: the default of a second would follow each
}
"""Settings of a reader of the first message of each partition."""


class TopicReader:
    """For one thread. Only committed messages. Every method raises Retryable or Fatal.

    `positions`: nothing below them was left out; they also move over offsets without a message.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        name: str,
        more: Mapping[str, Any] | None = None,
        *,
        stuck_seconds: float = STUCK_SECONDS,
    ) -> None:
        """`name`: of a group that is never joined, behind the topic prefix: librdkafka still looks for its coordinator,
        which the ACLs of an installation must allow. `more`: further settings of librdkafka, such as BULK."""
        self._stuck_seconds = stuck_seconds
        self._heard = errors.Heard(settings)
        self._consumer: Consumer = clients.consumer(
            settings,
            name if name.startswith(settings.topic_prefix) else settings.topic_prefix + name,
            "classic",
            **{"enable.partition.eof": True, "fetch.wait.max.ms": 100, "error_cb": self._heard, **(more or {})},
        )
        self._known: set[str] = set()
        self.positions: dict[Place, int] = {}

    def ends(self, topics: Iterable[str], timeout: float) -> dict[Place, int]:
        """The next offset of partition 0 of each topic as of now, open transactions left out.

        Over the connection that reads them anyway; an admin client would open one more.
        """
        begun = time.monotonic()
        found: dict[Place, int] = {}
        for topic in topics:
            while Place(topic, 0) not in found:
                try:
                    edges = log_edge(self._consumer, topic, [0], OFFSET_END, min(_CALL_SECONDS, timeout))
                    found[Place(topic, 0)] = edges[0]
                except Retryable as error:
                    self._consumer.poll(0)  # this is where the client says why
                    waited = time.monotonic() - begun
                    if waited > timeout or self._heard.gives_up(waited):
                        raise self._heard.explained(error, f"reading the bounds of {topic}") from error
        return found

    def read(self, ends: Mapping[Place, int], pump: Callable[[], None]) -> dict[Place, list[Message]]:
        """Everything from the beginnings up to `ends` (next offsets) or beyond; stays there for `poll`.

        `pump` is called repeatedly meanwhile.
        """
        self._assign(dict.fromkeys(ends, OFFSET_BEGINNING))
        self.positions = dict.fromkeys(ends, -1)
        return self.advance(ends, pump)

    def advance(self, ends: Mapping[Place, int], pump: Callable[[], None] = lambda: None) -> dict[Place, list[Message]]:
        """What follows on what was read, up to `ends` or beyond."""
        found: dict[Place, list[Message]] = {place: [] for place in ends}
        last_progress = time.monotonic()
        while any(self.positions[place] < end for place, end in ends.items()):
            before = dict(self.positions)
            self._take(clients.arrived(self._consumer, _CHUNK, _WAIT), found)
            pump()
            if self.positions != before:
                last_progress = time.monotonic()
            elif time.monotonic() - last_progress > self._stuck_seconds:
                raise self._stuck(ends)
        return found

    def poll(self) -> dict[Place, list[Message]]:
        """What has arrived since; does not wait."""
        found: dict[Place, list[Message]] = {place: [] for place in self.positions}
        self._take(self._consumer.consume(_CHUNK, 0), found)
        return found

    def scan(
        self, starts: Mapping[Place, int], ends: Mapping[Place, int], *, pauses: bool = False
    ) -> Iterator[list[Message]]:
        """The messages of [starts[place], ends[place]) of each place, in pieces; each place's in order.

        An open transaction is waited for; with `pauses`, there is an empty piece where nothing has arrived for 0.2 s.
        Remembers nothing for `poll`.
        """
        self.positions = dict(starts)
        left = {place for place, end in ends.items() if self.positions[place] < end}
        if not left:
            return
        self._assign({place: starts[place] for place in left})
        moved = time.monotonic()
        while left:
            batch: list[Message] = []
            for run in _runs(clients.arrived(self._consumer, _CHUNK, _WAIT)):
                if run.place not in left:
                    continue
                batch += run.within(starts[run.place], ends[run.place])
                if run.position > self.positions[run.place]:
                    self.positions[run.place], moved = run.position, time.monotonic()
                if self.positions[run.place] >= ends[run.place]:
                    left.discard(run.place)
            if batch:
                yield batch
                moved = time.monotonic()  # the caller may have taken its time
            elif pauses and left:
                yield batch
            if left and time.monotonic() - moved > self._stuck_seconds:
                raise self._stuck({place: ends[place] for place in left})

    def heads(self, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[Place, Message]:
        """The first message in [starts[place], ends[place]) of each place; no entry where there is none.

        Where `positions[place]` is below ends[place] and there is no entry, a transaction is open at that position.
        """
        found: dict[Place, Message] = {}
        left = {place: start for place, start in starts.items() if start < ends[place]}
        self.positions = dict(starts)
        if left:
            self._assign(left)
        moved = time.monotonic()
        while left:
            for run in _runs(clients.arrived(self._consumer, _CHUNK, _WAIT)):
                place, last = run.place, max(run.offsets)
                if place not in left or last < left[place]:  # known already, or of an earlier assignment
                    continue
                if messages := run.within(left[place], ends[place]):
                    found[place] = messages[0]
                    last = messages[0].offset() or 0
                self.positions[place] = max(self.positions[place], last)
                del left[place]
                moved = time.monotonic()
            if left and time.monotonic() - moved > self._stuck_seconds:
                raise self._stuck({place: ends[place] for place in left})
        return found

    def stop(self) -> None:
        """Read nothing until the next `read`."""
        self._consumer.unassign()
        self.positions = {}

    def close(self) -> None:
        self._consumer.close()

    def _assign(self, positions: Mapping[Place, int]) -> None:
        """A topic whose leaders this client does not know yet is read after up to a second: librdkafka asks for leaders
        of assigned partitions by a timer of its own. So they are asked for before."""
        for topic in {place.topic for place in positions} - self._known:
            try:
                self._consumer.list_topics(topic, _CALL_SECONDS)
                self._known.add(topic)
            except KafkaException:  # reading says what is wrong
                break
        self._consumer.assign([at(*place, offset) for place, offset in positions.items()])

    def _take(self, messages: Sequence[Message], found: dict[Place, list[Message]]) -> None:
        for run in _runs(messages):
            if run.place in found:
                found[run.place] += run.messages
                self.positions[run.place] = max(self.positions[run.place], run.position)

    def _stuck(self, ends: Mapping[Place, int]) -> Retryable:
        """Why nothing more can be read before `ends`. Raises Retryable or Fatal if Kafka does not say."""
        place = next(place for place, end in ends.items() if self.positions[place] < end)
        topic, partition = place
        try:
            stable = log_edge(self._consumer, topic, [partition], OFFSET_END, _CALL_SECONDS)[partition]
        except Retryable as error:
            raise self._heard.explained(error, f"reading {topic} partition {partition}") from error
        where = f"Kafka, reading {topic} partition {partition}"
        if stable >= ends[place] or self.positions[place] < stable:
            return Retryable(
                f"{where}: no message arrives from offset {self.positions[place]} on for {self._stuck_seconds:g} s"
            )
        return Retryable(f"{where}: {open_transaction(stable, self._stuck_seconds)}")


@dataclass(frozen=True, slots=True)
class _Run:
    """What arrived of one place without another in between: messages with their offsets, or none of them where the
    place is readable up to the offset now."""

    place: Place
    messages: list[Message]
    offsets: list[int]

    @property
    def position(self) -> int:
        """Everything below it has arrived."""
        return max(self.offsets) + bool(self.messages)

    def within(self, first: int, until: int) -> list[Message]:
        """The messages of [first, until). Others belong to an earlier assignment, or came after the end was taken."""
        if first <= min(self.offsets) and max(self.offsets) < until:
            return self.messages
        pairs = zip(self.messages, self.offsets, strict=False)
        return [message for message, offset in pairs if first <= offset < until]


def _runs(messages: Sequence[Message]) -> Iterator[_Run]:
    """Raises Retryable or Fatal for an error among the messages.

    The methods are mapped as they stand in the class of the messages, all of which are of one class: a loop that calls
    them costs six times as much.
    """
    if not messages:
        return
    kind = type(messages[0])
    whole = map(partial(is_, None), map(kind.error, messages))
    told = zip(map(kind.topic, messages), map(kind.partition, messages), whole, strict=True)
    for (topic, partition, is_message), pairs in groupby(zip(told, messages, strict=True), itemgetter(0)):
        place = Place(topic or "", partition or 0)
        together = list(map(itemgetter(1), pairs))
        if not is_message:
            for error in filter(None, map(kind.error, together)):
                if error.code() != KafkaError._PARTITION_EOF:
                    raise errors.as_error(error, f"reading {place.topic} partition {place.partition}")
        offsets = [offset for offset in map(kind.offset, together) if offset is not None]
        if offsets:
            yield _Run(place, together if is_message else [], offsets)


def open_transaction(offset: int, seconds: float | None = None) -> str:
    """The sentence about an open transaction, and how long it has been open, where that is known."""
    state = "is open" if seconds is None else f"has been open for {seconds:,.0f} s"
    return (
        f"the transaction at offset {offset} {state} and blocks read_committed consumers. If that lasts, follow "
        "docs/operations.md, 'A transaction without an end'"
    )
