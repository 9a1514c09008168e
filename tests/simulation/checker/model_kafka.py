"""Kafka as the checker can see it: logs with transactions and markers, compaction, producers and one consumer group.

One thread; whoever has to wait says so and is asked again later. What is modelled because it once mattered:
markers that arrive after the client was told "committed", produces that are still queued, offsets that stay pending
until the marker, fencing by the epoch of a transactional id, and fencing by membership of the group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meterfold_schemas.keys import partition_of


class Fenced(Exception):
    """Someone else uses the transactional id, or the transaction was aborted by its timeout."""


class NotAMember(Exception):
    """The group does not know the member any more: its offsets are refused, its transaction can only be aborted."""


@dataclass
class Transaction:
    state: str = "open"  # then committing or aborting (decided, markers missing), then committed or aborted
    logs: dict[tuple[str, int], int] = field(default_factory=dict)  # the first offset in each log
    offsets: dict[int, int] = field(default_factory=dict)

    @property
    def decided(self) -> bool:
        return self.state in ("committed", "aborted")


@dataclass
class Entry:
    offset: int
    key: bytes | None
    value: bytes | None
    transaction: Transaction | None
    marker: bool = False
    by: int = -1  # which memory wrote it


class Log:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.end = 0
        self.start = 0

    def append(self, entry: Entry) -> None:
        entry.offset = self.end
        self.entries.append(entry)
        self.end += 1

    def stable_end(self) -> int:
        undecided = (e.offset for e in self.entries if e.transaction is not None and not e.transaction.decided)
        return min(undecided, default=self.end)

    def committed(self, position: int = 0) -> tuple[list[Entry], int]:
        """What a read_committed reader gets from `position`, and its position afterwards."""
        end = self.stable_end()
        visible = [
            e
            for e in self.entries
            if position <= e.offset < end
            and not e.marker
            and (e.transaction is None or e.transaction.state == "committed")
        ]
        return visible, max(end, position)

    def compact(self, tombstones_until: int) -> None:
        """Keep the newest entry of each key below the stable end; tombstones below an offset go as well."""
        end = self.stable_end()
        below = [e for e in self.committed()[0] if e.offset < end]
        newest = {e.key: e for e in below}
        kept = {id(e) for e in newest.values() if e.value is not None or e.offset >= tombstones_until}
        self.entries = [e for e in self.entries if e.offset >= end or id(e) in kept]

    def expire(self) -> None:
        """Retention has deleted everything."""
        self.entries = [e for e in self.entries if e.offset >= self.stable_end()]
        self.start = self.stable_end()


class Producer:
    """One process's handle of a transactional id."""

    def __init__(self, kafka: ModelKafka, name: str, by: int) -> None:
        self.name = name
        self.by = by
        self._kafka = kafka
        self.epoch = kafka.take_over(name)
        self.queue: list[tuple[str, int, bytes | None, bytes | None]] = []

    def check(self) -> None:
        if self._kafka.epochs[self.name] != self.epoch:
            raise Fenced(self.name)

    def begin(self) -> None:
        self.check()
        before = self._kafka.current.get(self.name)
        if before is not None and not before.decided:
            assert before.state != "open", "a transaction is open already"
            self._kafka.finish(before)
        self._kafka.current[self.name] = Transaction()

    def deliver(self, count: int | None = None) -> None:
        """`count` of the queued messages, or all, reach the broker."""
        while self.queue and count != 0:
            self.check()
            topic, partition, key, value = self.queue.pop(0)
            transaction = self._kafka.current[self.name]
            log = self._kafka.log(topic, partition)
            transaction.logs.setdefault((topic, partition), log.end)
            log.append(Entry(0, key, value, transaction, by=self.by))
            count = None if count is None else count - 1

    def send_offsets(self, offsets: Mapping[int, int], member: str) -> None:
        self.check()
        if member not in self._kafka.members:
            raise NotAMember(member)
        self._kafka.current[self.name].offsets.update(offsets)

    def commit(self) -> None:
        self.deliver()
        self.check()
        self._kafka.current[self.name].state = "committing"

    def abort(self) -> None:
        self.queue.clear()
        self.check()
        transaction = self._kafka.current.get(self.name)
        if transaction is not None and transaction.state == "open":
            transaction.state = "aborting"
            self._kafka.finish(transaction)


class ModelKafka:
    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.logs: dict[tuple[str, int], Log] = {}
        self.epochs: dict[str, int] = {}
        self.current: dict[str, Transaction] = {}
        self.offsets: dict[int, int] = {}
        self.members: dict[str, set[int]] = {}

    def log(self, topic: str, partition: int = 0) -> Log:
        return self.logs.setdefault((topic, partition), Log())

    def publish(self, topic: str, partition: int, key: bytes | None, value: object) -> None:
        """Without a transaction."""
        self.log(topic, partition).append(Entry(0, key, value, None))  # type: ignore[arg-type]

    def partition_for(self, key: bytes) -> int:
        return partition_of(key, self.partitions)

    def take_over(self, name: str) -> int:
        """init_transactions: what is open is aborted, what is decided is finished, older epochs are fenced."""
        before = self.current.get(name)
        if before is not None and not before.decided:
            if before.state == "open":
                before.state = "aborting"
            self.finish(before)
        self.epochs[name] = self.epochs.get(name, 0) + 1
        return self.epochs[name]

    def finish_offsets(self, transaction: Transaction) -> None:
        """The marker has reached the group's offsets, before those of the other logs."""
        assert transaction.state == "committing"
        self.offsets.update(transaction.offsets)
        transaction.offsets = {}

    def finish(self, transaction: Transaction) -> None:
        """Write the markers."""
        transaction.state = {"committing": "committed", "aborting": "aborted"}[transaction.state]
        for topic, partition in transaction.logs:
            self.log(topic, partition).append(Entry(0, None, None, transaction, marker=True))
        if transaction.state == "committed":
            self.offsets.update(transaction.offsets)

    def finish_decided(self) -> None:
        for transaction in self.current.values():
            if transaction.state in ("committing", "aborting"):
                self.finish(transaction)

    def time_out(self, name: str) -> None:
        """transaction.timeout.ms is over: abort, and fence whoever had it open."""
        transaction = self.current.get(name)
        if transaction is not None and transaction.state == "open":
            self.take_over(name)

    def pending_offsets(self, partition: int) -> bool:
        return any(not t.decided and partition in t.offsets for t in self.current.values())
