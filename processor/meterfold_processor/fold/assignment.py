"""The partitions of one worker: handed over by the group, loaded from ClickHouse, held, and given back.

A partition is read only once its progress row is known. The group hands it over paused; then the progress row is read,
and *then* everything else, since a predecessor that is not dead yet may still be writing: what it writes after our look
is folded again from the progress row on, and rows of windows know themselves what they have folded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaException, TopicPartition

from meterfold_processor.backoff import Backoff
from meterfold_processor.fold.decode import Hold
from meterfold_processor.fold.partition import PartitionFold
from meterfold_processor.fold.schemas import Decided, Wait
from meterfold_processor.kafka.clients import assign_paused
from meterfold_processor.kafka.offsets import at
from meterfold_schemas.errors import Retryable
from meterfold_schemas.plurals import plural
from meterfold_schemas.schema_keys import shown

_LOG = logging.getLogger("meterfold.fold")

HOLD_SECONDS = 5.0
"""How often a held partition looks whether its schema is decided."""


@dataclass(slots=True)
class Held:
    """A partition that waits until its next schema is decided. `why` it still waits, empty before the first look."""

    hold: Hold
    look_again: float
    why: str = ""
    logged: bool = False


@dataclass(slots=True)
class Loading:
    """A partition that is ours and not loaded yet."""

    backoff: Backoff = field(default_factory=Backoff)
    not_before: float = 0.0


class Assignment:
    """Which partitions are ours, and how far each is. All methods run on the worker's own thread.

    `open_partition` reads a partition's state from ClickHouse, `check_source` compares the topic with the one that was
    folded so far, before the first of the partitions that were given together is opened; both may raise Retryable.
    """

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        open_partition: Callable[[int], PartitionFold],
        *,
        check_source: Callable[[], None],
        before_revoke: Callable[[], None],
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._open = open_partition
        self._check_source = check_source
        self._before_revoke = before_revoke
        self._unchecked = False
        self.active: dict[int, PartitionFold] = {}
        self.held: dict[int, Held] = {}
        self._loading: dict[int, Loading] = {}
        self._dropped: set[int] = set()
        self._paused = False
        self._believed: dict[int, int] = {}

    def subscribe(self) -> None:
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def take_dropped(self) -> set[int]:
        """The partitions that were given back since the last call: what was consumed of them is void."""
        dropped, self._dropped = self._dropped, set()
        return dropped

    @property
    def partitions(self) -> list[int]:
        """All that are ours, loaded or not."""
        return sorted([*self.active, *self._loading])

    def load_due(self) -> bool:
        """Load one partition that waits for it, if its time has come; whether something was tried. A Retryable is
        raised after the partition was put off."""
        now = time.monotonic()
        for partition, loading in list(self._loading.items()):
            if loading.not_before > now:
                continue
            try:
                self._load(partition)
            except Retryable:
                loading.not_before = now + loading.backoff.next()
                raise
            return True
        return False

    def hold(self, hold: Hold) -> None:
        """Stop reading a partition at a message whose schema is not decided."""
        self._consumer.pause([at(self._topic, hold.partition)])
        self.held[hold.partition] = Held(hold, time.monotonic())

    def holds_to_look_at(self) -> list[Held]:
        now = time.monotonic()
        return [held for held in self.held.values() if held.look_again <= now]

    def looked_at(self, held: Held, step: Wait | Decided) -> None:
        """Read on from the held message where it is decided what its schema is; else look again later."""
        hold = held.hold
        if isinstance(step, Decided):
            _LOG.info("partition %d resumes at offset %d", hold.partition, hold.offset)
            self._go_on(hold.partition, hold.offset)
            del self.held[hold.partition]
            return
        held.why = step.why
        pause = HOLD_SECONDS if step.seconds is None else min(HOLD_SECONDS, step.seconds)
        held.look_again = time.monotonic() + pause
        if not step.settling and not held.logged:
            held.logged = True
            name = shown(hold.fingerprint)
            _LOG.error(
                "partition %d waits at offset %d: this worker does not know schema %s: %s. Upgrade this worker, or "
                "decide it: `meterfold schema poison %s`, `meterfold schema alias %s SCHEMA`. Other partitions "
                "continue",
                hold.partition,
                hold.offset,
                name,
                step.why,
                name,
                name,
            )

    def pause(self) -> None:
        """Stop fetching; the worker keeps polling, so that the group keeps it."""
        self._paused = True
        self._consumer.pause([at(self._topic, partition) for partition in self.active])

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._consumer.resume([at(self._topic, p) for p in self.active if p not in self.held])

    def needs_reseek(self, partition: int, first_offset: int) -> bool:
        """Whether what was consumed does not follow on what is folded, and is to be read again from there.

        Transaction markers and aborted records leave holes that are none; whatever else could, an event that was
        skipped would never be counted. So a hole is believed only when it is there at the second look.
        """
        expected = self.active[partition].progress.next_offset
        if first_offset <= expected or self._believed.get(partition) == expected:
            return False
        self._go_on(partition, expected)
        self._believed[partition] = expected
        return True

    def _load(self, partition: int) -> None:
        if self._unchecked:
            self._check_source()
            self._unchecked = False
        fold = self._open(partition)
        self._go_on(partition, fold.progress.next_offset)
        del self._loading[partition]
        self.active[partition] = fold
        _LOG.info("partition %d: reading from offset %d", partition, fold.progress.next_offset)

    def _go_on(self, partition: int, offset: int) -> None:
        try:
            self._consumer.seek(at(self._topic, partition, offset))
            self._consumer.resume([at(self._topic, partition)])
        except KafkaException as error:  # the fetcher of a partition just assigned may not be up yet
            raise Retryable(f"Kafka, seeking partition {partition} to {offset}: {error.args[0].str()}") from error

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        assign_paused(consumer, self._topic, numbers)
        self._unchecked = True
        for number in numbers:
            self._loading[number] = Loading()

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._before_revoke()
        self._drop(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        _LOG.warning(
            "the group gave %s to another worker: this one was away too long", plural(len(partitions), "partition")
        )
        self._drop(partitions)

    def _drop(self, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            number = partition.partition
            self._loading.pop(number, None)
            self.active.pop(number, None)
            self.held.pop(number, None)
            self._believed.pop(number, None)
            self._dropped.add(number)
