"""A notifier without servers: the real planning and delivering on a store, a log and receivers in memory, which dies at
a chosen step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.endpoint_changes import EndpointChanged, EndpointState
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.periods import Period
from meterfold_service.notify.agenda import HELD, Agenda
from meterfold_service.notify.consumer import plan
from meterfold_service.notify.delivering import Deliverer
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.planning import PlanRules, Source
from meterfold_service.notify.store import Endpoints, Waiting
from meterfold_sink.notification_tries import ACTIVE, EndpointRow, TryRow
from meterfold_sink.notifications import DeliveryKey, DueDelivery, Failures, OpenDelivery

PLACE = ("log", 0)
START = datetime(2026, 11, 29, 12, 30, tzinfo=UTC)
HOOK, MAIL, OPERATOR = "https://hooks.example.com/a", "ada@example.com", "ops@example.com"
RULES = PlanRules((OPERATOR,), (), frozenset(), timedelta(days=3))


class Crash(BaseException):
    """The process is killed here."""


class Fuse:
    """`burn` raises Crash the `at`-th time (from 0); None: never."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.steps = 0

    def burn(self) -> None:
        self.steps += 1
        if self.at is not None and self.steps > self.at:
            self.at = None
            raise Crash


@dataclass
class World:
    """What outlives a notifier: servers and receivers. `answers`: what a target says to each try, in order, then
    delivered."""

    answers: dict[str, list[Outcome]] = field(default_factory=dict)
    sent: list[tuple[str, str, int]] = field(default_factory=list)
    """(event id, target, number of the try) of every message that a receiver got."""
    unrecorded: list[tuple[str, str]] = field(default_factory=list)
    """Messages that were sent without a row of their try."""
    log: list[ThresholdEvent | EndpointChanged] = field(default_factory=list)
    tries: dict[tuple[str, str, str, int, int], TryRow] = field(default_factory=dict)
    endpoints: dict[str, EndpointRow] = field(default_factory=dict)
    position: int = 0
    now: datetime = START

    def tick(self) -> datetime:
        """The time, which never stands still."""
        self.now += timedelta(milliseconds=1)
        return self.now

    def received(self, target: str) -> Counter[str]:
        return Counter(event for event, to, _ in self.sent if to == target)

    def states(self) -> dict[tuple[str, str], str]:
        """(event id, target) -> state of the delivery."""
        last: dict[tuple[str, str], TryRow] = {}
        for row in sorted(self.tries.values(), key=lambda row: (row.round, row.attempt)):
            last[row.event_id, row.target] = row
        return {key: row.state for key, row in last.items()}

    def published(self) -> list[EndpointChanged]:
        """The events about endpoints, each once by its id."""
        return list({event.event_id: event for event in self.log if isinstance(event, EndpointChanged)}.values())


class MemoryStore:
    """The store of one notifier: every write is a step before and after it is applied."""

    def __init__(self, world: World, fuse: Fuse) -> None:
        self.world = world
        self.fuse = fuse

    def check(self) -> None:
        """Nothing is missing."""

    def close(self) -> None:
        """Nothing is open."""

    def positions(self) -> dict[tuple[str, int], int]:
        return {("log", 0): self.world.position}

    def known(self, event_ids: Sequence[str]) -> dict[DeliveryKey, datetime]:
        return {DeliveryKey(*key[:3]): row.occurred_at for key, row in self.world.tries.items() if key[0] in event_ids}

    def alert_targets(self, alert_ids: Sequence[str]) -> dict[str, set[tuple[str, str]]]:
        return {
            alert: {(row.channel, row.target) for row in self.world.tries.values() if row.alert_id == alert}
            for alert in alert_ids
        }

    def write(self, rows: Sequence[TryRow]) -> None:
        self.fuse.burn()
        for row in rows:
            key = (row.event_id, row.channel, row.target, row.round, row.attempt)
            known = self.world.tries.get(key)
            if known is None or known.stage <= row.stage:
                self.world.tries[key] = row
        self.fuse.burn()

    def write_progress(self, positions: Mapping[tuple[str, int], int]) -> None:
        self.fuse.burn()
        self.world.position = max(self.world.position, *positions.values())
        self.fuse.burn()

    def write_endpoint(self, row: EndpointRow) -> None:
        self.fuse.burn()
        self.world.endpoints[row.endpoint] = row
        self.fuse.burn()

    def endpoints(self) -> Endpoints:
        return Endpoints({name: row for name, row in self.world.endpoints.items() if row.state != EndpointState.ACTIVE})

    def failures(self, endpoint: str) -> Failures:
        rows = [row for row in self.world.tries.values() if row.target == endpoint and row.started_at is not None]
        delivered = max((row.ended_at for row in rows if row.state == "delivered" and row.ended_at), default=None)
        since = [
            (row.started_at, row.state)
            for row in rows
            if row.state in ("sending", "retrying", "failed")
            and row.started_at is not None
            and (delivered is None or row.started_at > delivered)
        ]
        failed = sum(state != "sending" for _, state in since)
        return Failures(failed, min((began for began, _ in since), default=None))

    def open(self, owned: Iterable[tuple[str, int]], kept: datetime, per_target: int) -> list[OpenDelivery]:
        places, found = set(owned), list[OpenDelivery]()
        counts: Counter[tuple[str, str]] = Counter()
        for key, row in sorted(self._last().items(), key=lambda item: item[1].due_at):
            counts[row.channel, row.target] += 1
            if (row.topic, row.partition) in places and counts[row.channel, row.target] <= per_target:
                found.append(OpenDelivery(key, row.occurred_at, row.topic, row.partition, row.due_at))
        return found

    def states(self, deliveries: Sequence[OpenDelivery]) -> list[DueDelivery]:
        names = [entry.name for entry in fields(DueDelivery)]
        found, current = [], self._last()
        for one in deliveries:
            if (row := current.get(one.key)) is not None:
                values = {name: getattr(row, name) for name in names}
                values["payload"] = self.world.tries[*one.key, row.round, 0].payload
                found.append(DueDelivery(**values))
        return found

    def requests(self) -> dict[int, int]:
        return dict(Counter(row.round for row in self.world.tries.values() if row.round and not row.attempt))

    def requested(self, owned: Iterable[tuple[str, int]], rounds: Sequence[int], per_target: int) -> list[OpenDelivery]:
        return [
            OpenDelivery(
                DeliveryKey(row.event_id, row.channel, row.target),
                row.occurred_at,
                row.topic,
                row.partition,
                row.due_at,
            )
            for row in self.world.tries.values()
            if row.round in rounds and not row.attempt
        ]

    def _last(self) -> dict[DeliveryKey, TryRow]:
        """The last try of each delivery that has one to come."""
        rows: dict[DeliveryKey, TryRow] = {}
        for row in sorted(self.world.tries.values(), key=lambda row: (row.round, row.attempt)):
            rows[DeliveryKey(row.event_id, row.channel, row.target)] = row
        return {key: row for key, row in rows.items() if row.state in ACTIVE}

    def waiting(self, owned: Iterable[tuple[str, int]], kept: datetime) -> Waiting:
        return {}


@dataclass(frozen=True)
class Following:
    """One threshold, which notifies a mailbox and a webhook."""

    def catch_up(self) -> None:
        """It never changes."""

    def get(self, threshold_id: str) -> UsageThreshold | None:
        return UsageThreshold(  # type: ignore[call-arg]
            id=threshold_id,
            metric_key="api.calls",
            name="quota",
            threshold=Decimal(1000),
            warn_threshold=Decimal(800),
            period_type=Period.MONTHLY,
            notify_emails=(MAIL,),
            notify_webhook=HOOK,
            created_at=START,
            updated_at=START,
        )


def due_next(
    agenda: Agenda, store: MemoryStore, world: World, owned: Collection[tuple[str, int]]
) -> list[DueDelivery] | None:
    """What is due at the time of the next try, to which the world is moved; None where the agenda is empty."""
    chosen = agenda.choose(datetime.max.replace(tzinfo=UTC), owned, (), 1_000)
    if not chosen:
        return None
    world.now = max(world.now, min(one.due_at for one in chosen)) + timedelta(seconds=1)
    return agenda.settle(chosen, store.states(chosen), world.now)


def finished(trying: Coroutine[Any, Any, TryRow]) -> TryRow:
    """Nothing in here waits, so one step is all of it; an event loop for each would take most of the time."""
    try:
        trying.send(None)
    except StopIteration as end:
        row: TryRow = end.value
        return row
    raise AssertionError("a delivery waits")


@dataclass(frozen=True)
class Notifier:
    """One life. Also the journal of its tries, and every sender."""

    world: World
    fuse: Fuse
    agenda: Agenda = field(default_factory=Agenda)

    @property
    def store(self) -> MemoryStore:
        return MemoryStore(self.world, self.fuse)

    def live(self, most_steps: int = 400) -> None:
        """Plan and send until nothing is left to do; raises Crash where the fuse says."""
        self.agenda.load(self.store.open([PLACE], START, HELD))
        for _ in range(most_steps):
            if not (self._plan() or self._send()):
                return
        raise AssertionError("it never ends")

    def _plan(self) -> bool:
        begin = self.store.positions()[PLACE]
        batch = self.world.log[begin : begin + 2]
        if batch:
            sources = [Source(*PLACE, event) for event in batch]
            positions = {PLACE: begin + len(batch)}
            self.agenda.add(plan(sources, positions, Following(), self.store, RULES, self.world.now).open)
        return bool(batch)

    def _send(self) -> bool:
        due = due_next(self.agenda, self.store, self.world, [PLACE])
        for delivery in due or ():
            senders = dict.fromkeys(("email", "webhook"), self)
            deliverer = Deliverer(senders, self, timedelta(days=5), lambda: 0.5, self.world.tick)
            self.agenda.ended(finished(deliverer.deliver(delivery, self.store.endpoints())))
        return due is not None

    async def send(self, delivery: DueDelivery, now: datetime) -> Outcome:
        self.fuse.burn()
        key = (delivery.event_id, delivery.channel, delivery.target, delivery.round, delivery.attempt + 1)
        if key not in self.world.tries:
            self.world.unrecorded.append((delivery.event_id, delivery.target))
        answers = self.world.answers.get(delivery.target, [])
        outcome = answers.pop(0) if answers else Outcome("delivered", 200)
        if outcome.result == "delivered":
            self.world.sent.append((delivery.event_id, delivery.target, delivery.attempt + 1))
        self.fuse.burn()
        return outcome

    async def close(self) -> None:
        """Nothing is open."""

    async def write(self, row: TryRow) -> None:
        self.store.write([row])

    async def failures(self, endpoint: str) -> Failures:
        return self.store.failures(endpoint)

    async def publish(self, event: EndpointChanged) -> None:
        self.fuse.burn()
        self.world.log.append(event)
        self.fuse.burn()

    async def write_endpoint(self, row: EndpointRow) -> None:
        self.store.write_endpoint(row)
