"""The checker on real Kafka when things go wrong: killed, aborted, moved, fenced. Every event once."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.operations import Steps, drive_all
from meterfold_processor.checker.slots import Slot, SlotTaken
from meterfold_processor.kafka import clients
from meterfold_processor.kafka.reader import Place, TopicReader
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from support import consume_all, eventually, producer
from support.checker import process
from support.checker.installation import Installation, Running, running

UP = ("approaching approaching", "exceeded exceeded")


@pytest.fixture
def there(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    installation = Installation(kafka_settings, clickhouse_settings)
    yield installation
    installation.close()


class FailsOnce:
    """A drive that fails the first operation of one kind, before or after it was performed. `topic`: the first one of a
    transaction that publishes to this topic; offsets alone are committed as well."""

    def __init__(self, kind: type, *, after: bool, armed: bool = True, topic: str | None = None) -> None:
        self.kind = kind
        self.after = after
        self.armed = armed
        self.topic = topic
        self.published: set[str] = set()
        self.failed = threading.Event()

    def __call__(self, steps: Steps[Any], perform: Callable[[ops.Operation], Any]) -> Any:
        def failing(operation: ops.Operation) -> Any:
            if isinstance(operation, ops.Begin):
                self.published = set()
            elif isinstance(operation, ops.Produce):
                self.published = {message.topic for message in operation.messages}
            fails = self.armed and isinstance(operation, self.kind) and self.topic in (None, *self.published)
            if fails:
                self.armed = False
            if fails and not self.after:
                self.failed.set()
                raise Retryable("a test stopped here")
            answer = perform(operation)
            if fails:
                self.failed.set()
                raise Retryable("a test stopped here")
            return answer

        return drive_all(steps, failing)


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        (ops.Produce, True),
        (ops.FlushMessages, True),
        (ops.SendOffsets, True),
        (ops.CommitTransaction, False),
        (ops.CommitTransaction, True),
    ],
)
def test_a_step_that_fails_is_done_again_and_nothing_shows_twice(there: Installation, kind: type, after: bool) -> None:
    drive = FailsOnce(kind, after=after, armed=False, topic=there.topics.threshold_exceeded)
    there.define_metric()
    there.define_threshold()
    with running(there, drive=drive, aggregated_periods=[]) as checker:
        checker.ready(2)
        drive.armed = True
        there.use(120)
        assert drive.failed.wait(30)
        expected = [("t1", "u1", event, 1) for event in UP]
        there.seen_soon(expected)
        there.use(1)
        there.use(200, "u2", partition=1)
        there.seen_soon(expected + [("t1", "u2", event, 1) for event in UP])
        assert checker.worker.status.aborts == 1
        if kind is ops.SendOffsets or (kind is ops.CommitTransaction and not after):
            raw = consume_all(there.kafka, there.topics.threshold_exceeded, isolation="read_uncommitted")
            assert len(raw) > len(consume_all(there.kafka, there.topics.threshold_exceeded)), "nothing was aborted"


def test_two_checkers_join_and_leave(there: Installation) -> None:
    there.define_metric()
    there.define_threshold()
    expected: list[tuple[str, str, str, int]] = []

    def use(number: int) -> None:
        for partition in (0, 1):
            there.use(120, f"u{number}-{partition}", partition=partition)
            expected.extend(("t1", f"u{number}-{partition}", event, 1) for event in UP)

    with running(there, slot=0) as first:
        first.ready(2)
        use(0)
        with running(there, slot=1) as second:
            use(1)
            second.ready(1)
            first.ready(1)
            use(2)
            there.seen_soon(expected)
            first.end()
            use(3)
            second.ready(2)
            use(4)
            there.seen_soon(expected)


def test_killed_again_and_again(there: Installation, stack_environment: dict[str, str]) -> None:
    there.define_metric()
    there.define_threshold()
    expected: list[tuple[str, str, str, int]] = []
    one: subprocess.Popen[bytes] | None = None
    try:
        for turn in range(4):
            one = process.start(stack_environment)
            for number in range(6):
                partition = number % 2
                there.use(120, f"u{turn}-{number}", partition=partition)
                expected.extend(("t1", f"u{turn}-{number}", event, 1) for event in UP)
            done = 4 * turn
            eventually(lambda done=done: len(there.seen()) > done, 40, "the checker has judged something")
            one.send_signal(signal.SIGKILL)
            one.wait(60)
        one = process.start(stack_environment)
        there.seen_soon(expected)
        there.use(-119, "u0-0")
        there.seen_soon([*expected, ("t1", "u0-0", "cleared approaching", 1), ("t1", "u0-0", "cleared exceeded", 1)])
        one.terminate()
        assert one.wait(60) == 0
    finally:
        if one is not None and one.poll() is None:
            one.kill()
            one.wait(60)


def test_a_second_checker_on_the_same_slot_ends_and_the_first_goes_on(there: Installation) -> None:
    there.define_metric()
    there.define_threshold()
    with running(there) as first:
        first.ready(2)
        there.use(120)
        expected = [("t1", "u1", event, 1) for event in UP]
        there.seen_soon(expected)
        second = Running(there)
        eventually(lambda: second.failure, 40, "the second one ends")
        assert isinstance(second.failure, SlotTaken)
        assert f"slot 0 is already in use by a checker (process {os.getpid()} on " in str(second.failure)
        assert "METERFOLD_CHECKER_SLOT=1" in str(second.failure)
        there.use(120, "u2", partition=1)
        there.seen_soon(expected + [("t1", "u2", event, 1) for event in UP])
        assert first.worker.status.aborts == 0
        assert first.worker.status.partitions == [0, 1]


def test_two_that_start_on_one_slot_at_once_are_one_in_the_end(
    there: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither sees the other before it joins; the one that was started later ends."""
    there.define_metric()
    there.define_threshold()
    monkeypatch.setattr(Slot, "wait_until_free", lambda *_: None)
    first = Running(there)
    first.ready(2)
    second = Running(there)
    try:
        eventually(lambda: second.failure, 60, "the second one ends")
        assert isinstance(second.failure, SlotTaken)
        first.ready(2)
        there.use(120)
        there.seen_soon([("t1", "u1", event, 1) for event in UP])
        assert first.failure is None
    finally:
        for one in (first, second):
            one.stop.set()
            one.thread.join(15)


def test_a_checker_that_stands_still_is_replaced_and_one_is_left_when_it_goes_on(
    there: Installation, stack_environment: dict[str, str]
) -> None:
    there.define_metric()
    there.define_threshold()
    expected: list[tuple[str, str, str, int]] = []

    def use(subject_id: str) -> None:
        for partition in (0, 1):
            there.use(120, f"{subject_id}-{partition}", partition=partition)
            expected.extend(("t1", f"{subject_id}-{partition}", event, 1) for event in UP)

    still = process.start(stack_environment)
    other: subprocess.Popen[bytes] | None = None
    try:
        use("before")
        there.seen_soon(expected)
        still.send_signal(signal.SIGSTOP)
        use("during")
        other = process.start(stack_environment)
        there.seen_soon(expected)
        assert other.poll() is None
        still.send_signal(signal.SIGCONT)
        pair = (still, other)
        numbers = itertools.count()

        def one_is_left() -> bool:
            use(f"after{next(numbers)}")
            return [one.poll() for one in pair].count(None) == 1

        eventually(one_is_left, 60, "one of them ends")
        there.seen_soon(expected)
        seen = there.seen()
        assert len(seen) == len(set(seen))
    finally:
        for one in filter(None, (still, other)):
            one.kill()
            one.wait(60)


def test_committed_offsets_of_an_open_transaction_are_waited_for(there: Installation) -> None:
    """What the order of opening relies on: the group's offsets are read stable."""
    group = f"{there.kafka.topic_prefix}stable"
    topic = there.topics.usage_windows
    member = clients.consumer(there.kafka, group, "consumer")
    member.subscribe([topic])
    transactional = producer(there.kafka, **{"transactional.id": group, "transaction.timeout.ms": 10_000})
    transactional.init_transactions(20)
    reader = clients.consumer(there.kafka, group, "classic")
    try:
        eventually(lambda: member.consume(1, 0.2) == [] and member.assignment(), 30)
        transactional.begin_transaction()
        transactional.send_offsets_to_transaction([TopicPartition(topic, 0, 7)], member.consumer_group_metadata(), 20)
        found: list[int] = []

        def read() -> None:
            found.extend(place.offset for place in reader.committed([TopicPartition(topic, 0)], 30))

        thread = threading.Thread(target=read)
        thread.start()
        thread.join(1.5)  # the only wait here: it must *not* answer
        assert found == []
        transactional.commit_transaction(20)
        thread.join(20)
        assert found == [7]
    finally:
        member.close()
        reader.close()


def test_a_transaction_without_an_end_is_named(there: Installation) -> None:
    """Kafka may lose the end of one whose partition has no leader for a moment: readers stand before it for good."""
    place = Place(there.topics.threshold_state, 1)
    transactional = producer(there.kafka, **{"transactional.id": f"{there.kafka.topic_prefix}endless"})
    transactional.init_transactions(20)
    transactional.begin_transaction()
    for name in (b"one", b"two"):
        transactional.produce(place.topic, name, name, place.partition)
    transactional.flush(20)
    reader = TopicReader(there.kafka, f"{there.kafka.topic_prefix}reader", stuck_seconds=1.5)
    try:
        with pytest.raises(Retryable, match=r"threshold\.state partition 1: the transaction at offset 0 has been open"):
            reader.read({place: 2}, lambda: None)
        transactional.commit_transaction(20)
        assert [message.value() for message in reader.read({place: 3}, lambda: None)[place]] == [b"one", b"two"]
    finally:
        reader.close()
