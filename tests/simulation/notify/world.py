"""Notifiers of one group on a log, a store and receivers in memory: the real planning and delivering, where at every
write one of them can be killed, wait while the others work, or find its server away.

A notifier that waits in the middle of a step while others take over is one that was paused (SIGSTOP, a long garbage
collection): it continues with what it had read before.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from pydantic import SecretStr

from meterfold_schemas.endpoint_changes import EndpointChanged
from meterfold_schemas.errors import Retryable
from meterfold_schemas.events import ThresholdEvent
from meterfold_service.notify import consumer, mails, signing
from meterfold_service.notify.agenda import Agenda
from meterfold_service.notify.consumer import Planned
from meterfold_service.notify.delivering import Deliverer
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.planning import Source
from meterfold_service.notify.store import Endpoints
from meterfold_sink.notification_tries import EndpointRow, TryRow
from meterfold_sink.notifications import DeliveryKey, DueDelivery, Failures, OpenDelivery
from support.deliveries import event
from support.notifier import (
    HOOK,
    MAIL,
    OPERATOR,
    PLACE,
    RULES,
    START,
    Crash,
    Following,
    Fuse,
    MemoryStore,
    World,
    due_next,
    finished,
)
from support.receivers import SECRET

__all__ = ["Chance", "Installation", "Life", "Message", "Variant", "run"]

_SENDER: Final = "meterfold@example.com"
_BATCH: Final = 3
_LONG: Final = timedelta(days=365)
"""No delivery is given up and no endpoint is disabled: outages add up to days here."""
_RULES: Final = replace(RULES, retry=_LONG)
_DEPTH: Final = 2
"""Notifiers that stand still at the same time."""
_HELD: Final = 3
"""Deliveries to one target that an agenda holds: fewer than there are, now and then."""


class Variant:
    """A notifier that keeps every rule; what is deliberately broken replaces a method."""

    def plan(self, life: Life, sources: list[Source], position: int) -> None:
        now = life.here.world.now
        planned = consumer.plan(sources, {PLACE: position}, Following(), life.store, _RULES, now)
        life.agenda.add(self.open(planned))
        life.here.committed = max(life.here.committed, position)

    def open(self, planned: Planned) -> Sequence[OpenDelivery]:
        """What is sent of an event that was read."""
        return planned.open

    def begin(self, life: Life) -> int:
        """The offset at which a partition that was assigned is read."""
        return life.store.positions()[PLACE]

    def load(self, life: Life) -> None:
        """After `begin`, before anything is read or sent."""
        life.agenda.load(life.store.open([PLACE], START, life.agenda.most_held))

    def load_more(self, life: Life) -> None:
        """Where the agenda does not hold everything that may be due."""
        self.load(life)

    def due(self, life: Life, found: list[DueDelivery]) -> list[DueDelivery]:
        return found

    def sent(self, delivery: DueDelivery, life: Life) -> DueDelivery:
        """What a try is made of."""
        return delivery

    async def write(self, life: Life, row: TryRow) -> None:
        life.persist(lambda: life.store.write([row]))


@dataclass(frozen=True, slots=True)
class Message:
    """What a receiver keys on, and what it got; without what differs by rule (dates and signatures)."""

    id: str
    body: bytes


@dataclass
class Chance:
    """How often out of 1.0 a write is where a notifier is killed, where its server is away, and where the others work
    on meanwhile; `away` is of receivers, and `silent` those that take a message and do not answer. Between steps an
    `outage` of the webhook begins or ends, the partition is `moved`, and ClickHouse `restored` from a backup."""

    seed: int
    killed: float = 0.02
    unavailable: float = 0.04
    paused: float = 0.04
    away: float = 0.15
    silent: float = 0.05
    outage: float = 0.03
    moved: float = 0.03
    restored: float = 0.015

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def strikes(self, share: float) -> bool:
        return self.random.random() < share

    def none(self) -> None:
        """Everything works from now on."""
        self.killed = self.unavailable = self.paused = self.away = self.silent = 0.0


@dataclass
class Installation:
    """What outlives every notifier, and the notifiers. One of them owns the partition."""

    chance: Chance
    variant: Variant
    world: World = field(default_factory=World)
    committed: int = 0
    """The offset of the group: it only shows the lag."""
    received: dict[str, list[Message]] = field(default_factory=lambda: defaultdict(list))
    """target -> what it got."""
    lives: list[Life] = field(default_factory=list)
    harmed: bool = False
    """Whether anything has gone wrong after which a message may be repeated."""
    down: bool = False
    """The webhook endpoint is away for a while."""
    _inside: int = 0
    _backup: tuple[dict[tuple[str, str, str, int, int], TryRow], dict[str, EndpointRow], int] | None = None

    def happen(self) -> None:
        """An event, and time that passes."""
        self.world.now += timedelta(seconds=self.chance.random.choice((0, 1, 7, 90)))
        number = len(self.world.log)
        self.world.log.append(event(subject_id=f"u{number}", occurred_at=self.world.now))

    def assign(self) -> None:
        """Another notifier gets the partition, or the first one."""
        for life in self.lives:
            life.position = None
        if len(self.lives) < 2 or self.chance.strikes(0.3):
            self.lives = [*self.lives[-1:], Life(self)]
        life = self.chance.random.choice(self.lives)
        life.loaded = False
        with suppress(Retryable):
            life.position = self.variant.begin(life)

    def work(self) -> bool:
        """A step of the owner; whether there was something to do. One that is killed has a successor."""
        owner = next((life for life in self.lives if life.position is not None), None)
        if owner is None:
            self.assign()
            return True
        try:
            return owner.step()
        except Crash:
            self.harmed = True
            owned = owner.position is not None  # another one may have taken over while it stood still
            self.lives = [life for life in self.lives if life is not owner]
            if owned:
                self.assign()
            return True

    def meanwhile(self) -> None:
        """The owner stands still in the middle of a step: another one takes over and works."""
        if self._inside == _DEPTH:
            return
        self._inside += 1
        self.harmed = True
        self.assign()
        for _ in range(self.chance.random.randrange(6)):
            self.work()
        self._inside -= 1

    def restore(self) -> None:
        """ClickHouse as it was at the last backup, while no notifier runs; and a new backup."""
        self.lives = []
        if self._backup is not None:
            self.harmed = True
            tries, endpoints, self.world.position = self._backup
            self.world.tries, self.world.endpoints = dict(tries), dict(endpoints)
        self._backup = dict(self.world.tries), dict(self.world.endpoints), self.world.position


class LifeStore(MemoryStore):
    """The store of one notifier, which can be away, and then may have taken a part of what was written."""

    def __init__(self, life: Life) -> None:
        super().__init__(life.here.world, Fuse(None))
        self.life = life

    def write(self, rows: Sequence[TryRow]) -> None:
        write = super().write
        self.life.interrupted(lambda: write([row for row in rows if self.life.here.chance.strikes(0.5)]))
        write(rows)
        self.life.interrupted()

    def write_progress(self, positions: Mapping[tuple[str, int], int]) -> None:
        self.life.interrupted()
        super().write_progress(positions)
        self.life.interrupted()

    def write_endpoint(self, row: EndpointRow) -> None:
        self.life.interrupted()
        super().write_endpoint(row)
        self.life.interrupted()

    def states(self, deliveries: Sequence[OpenDelivery]) -> list[DueDelivery]:
        return self.life.here.variant.due(self.life, super().states(deliveries))


class Life:
    """One notifier. `position` is where it reads on; None while it does not own the partition."""

    def __init__(self, here: Installation) -> None:
        self.here = here
        self.position: int | None = None
        self.loaded = self.loaded_ever = False
        self.store = LifeStore(self)
        self.agenda = Agenda(_HELD)
        self.own: set[DeliveryKey] = set()
        """What this process has tried."""

    def step(self) -> bool:
        if not self.loaded:
            self.here.variant.load(self)
            self.loaded = self.loaded_ever = True
        both = [self._plan, self._send]
        self.here.chance.random.shuffle(both)
        return any(one() for one in both)

    def interrupted(self, partly: Callable[[], None] = lambda: None) -> None:
        """Before or after a write: killed, the server away, or paused. `partly` applies some of what is written."""
        chance = self.here.chance
        if chance.strikes(chance.killed):
            partly()
            raise Crash
        if chance.strikes(chance.unavailable):
            partly()
            raise Retryable("a server is away")
        if chance.strikes(chance.paused):
            self.here.meanwhile()

    def persist(self, call: Callable[[], None]) -> None:
        """Until the server answers, as the dispatcher and the consumer do."""
        while True:
            try:
                call()
            except Retryable:
                continue
            return

    def _plan(self) -> bool:
        assert self.position is not None
        batch = self.here.world.log[self.position : self.position + _BATCH]
        if not batch:
            return False
        position = self.position + len(batch)
        sources = [Source(*PLACE, found) for found in batch]
        self.persist(lambda: self.here.variant.plan(self, sources, position))
        if self.position is not None:  # it may have lost the partition meanwhile
            self.position = position
        return True

    def _send(self) -> bool:
        world = self.here.world
        if self.agenda.wants_more(datetime.max.replace(tzinfo=UTC)):
            self.here.variant.load_more(self)
        due = due_next(self.agenda, self.store, world, [PLACE])
        for delivery in due or ():
            deliverer = Deliverer(dict.fromkeys(("email", "webhook"), self), self, _LONG, self._draw, world.tick)
            self.own.add(delivery.key)
            self.agenda.ended(finished(deliverer.deliver(delivery, self._endpoints())))
            if self.position is None:
                break
        return due is not None

    def _draw(self) -> float:
        return self.here.chance.random.random()

    def _endpoints(self) -> Endpoints:
        return self.store.endpoints()

    # As a sender

    async def send(self, delivery: DueDelivery, now: datetime) -> Outcome:
        world, chance = self.here.world, self.here.chance
        if (
            delivery.event_id,
            delivery.channel,
            delivery.target,
            delivery.round,
            delivery.attempt + 1,
        ) not in world.tries:
            world.unrecorded.append((delivery.event_id, delivery.target))
        made = self.here.variant.sent(delivery, self)
        if chance.strikes(chance.killed):
            raise Crash
        if chance.strikes(chance.away) or (self.here.down and delivery.target == HOOK):
            return Outcome("retry", error="the connection failed")
        self.here.received[delivery.target].append(_message(made, world))
        if chance.strikes(chance.killed):
            raise Crash
        if chance.strikes(chance.silent):
            self.here.harmed = True
            return Outcome("retry", error="no answer within 20 s")
        return Outcome("delivered", 200)

    async def close(self) -> None:
        """Nothing is open."""

    # As a journal

    async def write(self, row: TryRow) -> None:
        await self.here.variant.write(self, row)

    async def failures(self, endpoint: str) -> Failures:
        return self.store.failures(endpoint)

    async def publish(self, change: EndpointChanged) -> None:
        self.persist(lambda: self._append(change))

    async def write_endpoint(self, row: EndpointRow) -> None:
        self.persist(lambda: self.store.write_endpoint(row))

    def _append(self, change: EndpointChanged) -> None:
        self.interrupted()
        self.here.world.log.append(change)
        self.interrupted()


def _message(delivery: DueDelivery, world: World) -> Message:
    """As the real channels make it."""
    if delivery.channel == "email":
        mail = mails.mail_of(delivery, _SENDER, world.now)
        return Message(str(mail["Message-ID"]), f"{mail['Subject']}\n{delivery.payload}".encode())
    body = delivery.payload.encode()
    made = dict(signing.headers([SecretStr(SECRET)], delivery.event_id, world.now, body))
    return Message(made["webhook-id"], body)


def differences(here: Installation) -> list[str]:
    """What a receiver or a reader of the tables would miss, once everything was delivered."""
    world, found = here.world, []
    events = {e.event_id for e in world.log if isinstance(e, ThresholdEvent)}
    changes = {e.event_id for e in world.log if isinstance(e, EndpointChanged)}
    states = world.states()
    for target, wanted in ((HOOK, events), (MAIL, events), (OPERATOR, changes)):
        names = {_name(target, event_id): event_id for event_id in wanted}
        bodies: dict[str, set[bytes]] = defaultdict(set)
        for message in here.received[target]:
            bodies[message.id].add(message.body)
        if missing := names.keys() - bodies.keys():
            found.append(f"{target} never got {len(missing)} of {len(names)} events, among them {min(missing)}")
        if more := bodies.keys() - names.keys():
            found.append(f"{target} got {len(more)} ids that no event has, among them {min(more)}")
        if changed := [name for name, seen in bodies.items() if len(seen) > 1]:
            found.append(f"{target} got other contents under the same id: {changed[:2]}")
        left = {states.get((event_id, target), "not planned") for event_id in wanted} - {"delivered"}
        if left:
            found.append(f"deliveries to {target} ended as {', '.join(sorted(left))}")
        repeats = len(here.received[target]) - len(bodies)
        if repeats and not here.harmed:
            found.append(f"{target} got {repeats} messages again although nothing had happened")
    if world.unrecorded:
        found.append(f"{len(world.unrecorded)} messages were sent without a row of their try")
    return found


def _name(target: str, event_id: str) -> str:
    return event_id if target == HOOK else f"<{event_id}@example.com>"


def run(chance: Chance, variant: Variant, length: int) -> Installation:
    """A history, and then a notifier that lives until nothing is left to do. Raises AssertionError for a difference."""
    here = Installation(chance, variant)
    for _ in range(length):
        if chance.strikes(0.2):
            here.happen()
        elif chance.strikes(chance.outage):
            here.down = not here.down
        elif chance.strikes(chance.moved):
            here.assign()
        elif chance.strikes(chance.restored):
            here.restore()
        else:
            here.work()
    chance.none()
    here.down = False
    if chance.strikes(0.5):  # else the notifiers that are there have to know everything that is open
        here.lives = []
    for _ in range(20 * length):
        if not here.work():
            break
    else:
        raise AssertionError("it never ends")
    found = differences(here)
    assert not found, "\n".join(found)
    return here
