"""One cluster, one store and some checker processes, each advanced by one operation at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from meterfold_processor.checker.pace import Sizes
from meterfold_processor.checker.partition import CheckPlan
from meterfold_processor.checker.rules import WindowRules
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.keys import metric_definition_key
from meterfold_schemas.periods import DAY, HOUR, Period, from_micros, micros
from meterfold_schemas.topics import Topics
from meterfold_schemas.vocabulary import AggregationType, ResetPeriod
from simulation.checker.model_kafka import ModelKafka
from simulation.checker.model_store import Flush, ModelStore, Row, Subject
from simulation.checker.worker import Variant, Worker

T0 = micros(datetime(2026, 3, 10, 9, 30, tzinfo=UTC))
TOPICS = Topics("")
RULES = WindowRules(open_for=4 * DAY, grace=HOUR)
INTERVAL = 10.0

U1: Subject = ("acme", "api.calls", "user", "u1")
U2: Subject = ("acme", "api.calls", "user", "u2")
OTHER: Subject = ("other", "api.calls", "user", "u1")
NO_ORG: Subject = ("", "api.calls", "user", "u1")


@dataclass
class World:
    partitions: int = 1
    seed: int = 0
    variant: Variant = field(default_factory=Variant)
    aggregated: frozenset[Period] = frozenset({Period.DAILY, Period.LIFETIME})
    sizes: Sizes = field(default_factory=Sizes)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.kafka = ModelKafka(self.partitions)
        self.store = ModelStore(self.partitions)
        self.wall_now = T0
        self.monotonic_now = 1000.0
        self.plan = CheckPlan(TOPICS, RULES, self.aggregated, INTERVAL)
        self.workers: list[Worker] = []
        self.processes = 0
        # Both topics as they were written, before any compaction: (kind, name, definition or None).
        self.history: dict[str, list[tuple[Any, Any]]] = {"metric": [], "threshold": []}
        self.homes: dict[Subject, int] = {}
        self.moving: dict[int, str] = {}
        self.compacted = False
        self._incarnation = 0

    def incarnations(self) -> int:
        """A fresh number for a process's memory, with room for the times it drops all of it."""
        self._incarnation += 1_000_000
        return self._incarnation

    # Time

    def wall(self) -> int:
        return self.wall_now

    def monotonic(self) -> float:
        return self.monotonic_now

    def tick(self, micros: int = 1_000_000) -> None:
        self.wall_now += micros
        self.monotonic_now += micros / 1e6

    # Definitions

    def metric(
        self, kind: str = "sum", org_id: str = "", key: str = "api.calls", *, is_active: bool = True
    ) -> MetricDefinition:
        now = from_micros(self.wall_now)
        made = MetricDefinition(
            id=f"m:{org_id}:{key}",
            key=key,
            name=key,
            unit="call",
            org_id=org_id,
            aggregation_type=AggregationType(kind),
            reset_period=ResetPeriod.DAILY,
            is_active=is_active,
            created_at=now,
            updated_at=now,
        )
        self.history["metric"].append(((org_id, key), made))
        self.kafka.publish(TOPICS.metric_defined, 0, made.message_key, made.to_bytes())
        return made

    def delete_metric(self, org_id: str = "", key: str = "api.calls") -> None:
        self.history["metric"].append(((org_id, key), None))
        self.kafka.publish(TOPICS.metric_defined, 0, metric_definition_key(org_id, key), None)

    def threshold(
        self,
        threshold_id: str = "t1",
        limit: int = 100,
        warn: int | None = None,
        *,
        name: str = "cap",
        period: Period = Period.DAILY,
        subject: tuple[str, str] | None = None,
        is_active: bool = True,
        org_id: str | None = "acme",
        created_at: int | None = None,
    ) -> UsageThreshold:
        known = next((t for k, t in reversed(self.history["threshold"]) if k == threshold_id and t is not None), None)
        now = from_micros(self.wall_now)
        made = UsageThreshold(
            id=threshold_id,
            org_id=org_id,
            metric_key="api.calls",
            subject_type=None if subject is None else subject[0],
            subject_id=None if subject is None or not subject[1] else subject[1],
            name=name,
            threshold=Decimal(limit),
            warn_threshold=None if warn is None else Decimal(warn),
            period_type=period if known is None else known.period_type,
            is_active=is_active,
            created_at=(now if created_at is None else from_micros(created_at)) if known is None else known.created_at,
            updated_at=now,
        )
        self.history["threshold"].append((threshold_id, made))
        self.kafka.publish(TOPICS.threshold_defined, 0, made.message_key, made.to_bytes())
        return made

    def delete_threshold(self, threshold_id: str = "t1") -> None:
        self.history["threshold"].append((threshold_id, None))
        self.kafka.publish(TOPICS.threshold_defined, 0, threshold_id.encode(), None)

    # Usage

    def use(self, quantity: int, subject: Subject = U1, *, at: int | None = None) -> int:
        """An event is accepted; its offset."""
        partition = self.homes.setdefault(subject, len(self.homes) % self.partitions)
        return self.store.append(partition, subject, self.wall_now if at is None else at, quantity, self.wall_now)

    def fold(self, partition: int = 0, count: int | None = None) -> Flush:
        """One whole flush, in the fold's order: insert, publish, progress."""
        flush = self.store.fold(partition, count)
        flush.insert()
        self.publish(partition, flush.rows)
        flush.progress()
        return flush

    def publish(self, partition: int, rows: Iterable[Row]) -> None:
        rows = list(rows)
        if rows:
            self.store.published.append((partition, rows))
            self.kafka.publish(TOPICS.usage_windows, partition, None, rows)

    # Processes

    def start(self, slot: int = 0) -> Worker:
        """A new process on a slot; it joins, and gets what no one has."""
        worker = Worker(self, slot, self.processes)
        self.processes += 1
        self.workers.append(worker)
        worker.join()
        self.hand_out()
        return worker

    def kill(self, worker: Worker, *, notice: bool = True) -> None:
        """SIGKILL. With `notice` the group's session time has passed as well."""
        self.workers.remove(worker)
        if notice:
            self.expel(worker)

    def expel(self, worker: Worker) -> None:
        """The group has lost a member: a dead process, or one that stands still. Its partitions go to others."""
        self.kafka.members.pop(worker.member, None)
        self.hand_out()

    def hand_out(self) -> None:
        """Give partitions that no one owns to the members with the fewest."""
        members = self.kafka.members
        owned = set().union(*members.values()) if members else set()
        for partition in sorted(set(range(self.partitions)) - owned):
            if members:
                members[min(sorted(members), key=lambda m: len(members[m]))].add(partition)

    def run(self, *workers: Worker, until: Callable[[], bool] | None = None) -> None:
        """Advance processes in turn until nothing happens any more (or `until`)."""
        chosen = workers or tuple(self.workers)
        for _ in range(400):
            before = self.fingerprint()
            for worker in chosen:
                worker.turn()
                if until is not None and until():
                    return
            self.kafka.finish_decided()
            if before == self.fingerprint() and all(worker.idle for worker in chosen):
                return
        raise AssertionError("the checkers do not come to rest")

    def compact(self) -> None:
        """The log cleaner has come by. A tombstone outlives every reader that follows the topic: it is kept for a day,
        and whoever stands still for longer has lost its membership."""
        self.compacted = True
        following = [w.definitions_read for w in self.workers if w.member in self.kafka.members]
        until = {
            TOPICS.metric_defined: min((read["metric"] for read in following), default=10**9),
            TOPICS.threshold_defined: min((read["threshold"] for read in following), default=10**9),
            TOPICS.threshold_state: 10**9,
            TOPICS.usage_aggregated: 10**9,
        }
        for (topic, _), log in self.kafka.logs.items():
            if topic in until:
                log.compact(until[topic])

    def fingerprint(self) -> object:
        ends = tuple((name, log.end) for name, log in sorted(self.kafka.logs.items()))
        return ends, tuple(sorted(self.kafka.offsets.items())), tuple(len(w.checker.ready) for w in self.workers)

    def come_to_rest(self) -> None:
        """No more faults: zombies are gone, the fold has written everything, and the checkers judge all of it."""
        self.store.down = False
        newest = {worker.slot: worker for worker in self.workers}
        for worker in [w for w in self.workers if w.member not in self.kafka.members or newest[w.slot] is not w]:
            self.kill(worker)
        for member in set(self.kafka.members) - {w.member for w in self.workers}:
            del self.kafka.members[member]
        for worker in self.workers:
            worker.faults.clear()
        for name in list(self.kafka.current):
            if not any(w.producer.name == name for w in self.workers):
                self.kafka.time_out(name)
        self.kafka.finish_decided()
        for partition in range(self.partitions):
            if self.store.folded[partition] < len(self.store.events[partition]):
                self.fold(partition)
        if not self.workers:
            self.start()
        for _ in range(3):
            self.hand_out()
            self.run()
            self.tick(int(INTERVAL * 1e6) + 1_000_000)
        self.run()
