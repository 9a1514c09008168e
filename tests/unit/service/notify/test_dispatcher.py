"""Many deliveries at a time, few to one target, whatever the servers do."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from meterfold_schemas.errors import Fatal, Retryable
from meterfold_service.notify.agenda import HELD, PER_TARGET, Agenda
from meterfold_service.notify.dispatcher import Dispatcher
from meterfold_service.notify.outcomes import Outcome
from meterfold_service.notify.status import NotifyStatus
from meterfold_sink.notification_tries import TryRow
from meterfold_sink.notifications import DeliveryKey, DueDelivery, OpenDelivery
from support import eventually
from support.notifier import Fuse, MemoryStore, World

SLOW = "https://slow.example.com/"


@dataclass
class Receiver:
    """Holds every message to SLOW until `released`; counts what is under way."""

    released: threading.Event = field(default_factory=threading.Event)
    under_way: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)
    got: list[tuple[str, str]] = field(default_factory=list)

    async def send(self, delivery: DueDelivery, now: datetime) -> Outcome:
        target = delivery.target
        self.under_way[target] += 1
        self.most[target] = max(self.most[target], self.under_way[target])
        while target == SLOW and not self.released.is_set():
            await asyncio.sleep(0.01)
        self.under_way[target] -= 1
        self.got.append((delivery.event_id, target))
        return Outcome("delivered", 200)

    async def close(self) -> None:
        """Nothing is open."""


class Failing(MemoryStore):
    """Raises each of `to_raise` from one write or look, then works."""

    def __init__(self, world: World, failures: list[Exception]) -> None:
        super().__init__(world, Fuse(None))
        self.to_raise = failures

    def write(self, rows: Sequence[TryRow]) -> None:
        super().write(rows)  # a write that raised may be there
        self._fail()

    def states(self, deliveries: Sequence[OpenDelivery]) -> list[DueDelivery]:
        self._fail()
        return super().states(deliveries)

    def _fail(self) -> None:
        if self.to_raise:
            raise self.to_raise.pop(0)


def world(**targets: int) -> World:
    """So many planned deliveries for each target."""
    found = World()
    now = datetime.now(UTC)
    for target, count in targets.items():
        for number in range(count):
            row = TryRow(
                occurred_at=now,
                event_id=f"{target}-{number}",
                channel="webhook",
                target=SLOW if target == "slow" else f"https://{target}.example.com/",
                due_at=now,
                give_up_at=now + timedelta(days=3),
                event_type="threshold.exceeded",
                topic="t",
                partition=0,
                payload="{}",
            )
            found.tries[row.event_id, row.channel, row.target, 0, 0] = row
    return found


@contextmanager
def dispatching(
    store: MemoryStore,
    receiver: Receiver,
    most_held: int = HELD,
    owned: Callable[[], dict[tuple[str, int], int]] = lambda: {("t", 0): 1},
) -> Iterator[tuple[NotifyStatus, Callable[[], None], Dispatcher]]:
    """A dispatcher in a thread; yields its status, a function that raises what it raised, and itself."""
    status, stop = NotifyStatus(), threading.Event()
    raised: list[BaseException] = []
    dispatcher = Dispatcher(
        store,
        {"webhook": receiver},
        lambda event: None,
        owned,
        timedelta(days=5),
        status,
        look_seconds=0.05,
        agenda=Agenda(most_held),
    )

    def run() -> None:
        try:
            dispatcher.run(stop)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def check() -> None:
        if raised:
            raise raised[0]

    try:
        yield status, check, dispatcher
    finally:
        receiver.released.set()
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def test_a_slow_target_delays_no_other() -> None:
    there, receiver = world(slow=50, quick=50, other=50), Receiver()
    with dispatching(MemoryStore(there, Fuse(None)), receiver):
        eventually(lambda: len(receiver.got) == 100, 60, "the quick ones are done while the slow one holds its four")
        assert receiver.under_way[SLOW] == PER_TARGET
        receiver.released.set()
        eventually(lambda: set(there.states().values()) == {"delivered"}, 60)
    assert max(receiver.most.values()) == PER_TARGET
    assert max(Counter(receiver.got).values()) == 1


def test_a_store_that_is_away_for_a_while_costs_no_second_message() -> None:
    there, receiver = world(quick=8), Receiver()
    away: list[Exception] = [Retryable("ClickHouse is away")] * 4
    with dispatching(Failing(there, away), receiver) as (status, _, _):
        eventually(lambda: set(there.states().values()) == {"delivered"}, 60)
        eventually(lambda: not status.errors, 20, "the trouble is over")
    assert len(receiver.got) == 8
    assert status.tries == {("webhook", "delivered"): 8}


class Counting(MemoryStore):
    """Counts its reads, and the deliveries that were looked up."""

    def __init__(self, world: World) -> None:
        super().__init__(world, Fuse(None))
        self.loads = self.looked_up = self.looks = 0

    def open(self, owned: Iterable[tuple[str, int]], kept: datetime, per_target: int) -> list[OpenDelivery]:
        self.loads += 1
        return super().open(owned, kept, per_target)

    def states(self, deliveries: Sequence[OpenDelivery]) -> list[DueDelivery]:
        self.looked_up += len(deliveries)
        return super().states(deliveries)

    def requests(self) -> dict[int, int]:
        self.looks += 1
        return super().requests()


def test_the_history_is_read_once_and_each_try_is_looked_up_once() -> None:
    there, receiver = world(quick=40), Receiver()
    store = Counting(there)
    with dispatching(store, receiver) as (status, _, dispatcher):
        eventually(lambda: len(receiver.got) == 40, 60)
        eventually(lambda: status.waiting == {}, 60, "nothing waits")
        # Planned by this process meanwhile
        more = world(later=5).tries
        there.tries.update(more)
        dispatcher.planned([opened(row) for row in more.values()])
        eventually(lambda: len(receiver.got) == 45, 60)
        # Requested by a user, who writes to the store only
        first = next(iter(more.values()))
        again = replace(first, round=1, due_at=datetime.now(UTC))
        there.tries[again.event_id, again.channel, again.target, 1, 0] = again
        eventually(lambda: len(receiver.got) == 46, 60)
        seen = store.looks
        eventually(lambda: store.looks >= seen + 10, 60, "it looks on")
    assert Counter(receiver.got)[first.event_id, first.target] == 2
    assert (store.loads, store.looked_up) == (1, 46)


def test_more_than_the_agenda_holds_is_loaded_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterfold_service.notify.dispatcher._LOAD_SECONDS", 0.0)
    there, receiver = world(quick=40, other=3), Receiver()
    store = Counting(there)
    with dispatching(store, receiver, most_held=10):
        eventually(lambda: len(receiver.got) == 43, 60)
        eventually(lambda: set(there.states().values()) == {"delivered"}, 60)
    assert max(Counter(receiver.got).values()) == 1
    assert 4 <= store.loads <= 8


def test_a_partition_that_comes_back_is_loaded_again() -> None:
    """Another notifier has planned and tried deliveries of it meanwhile."""
    there, receiver, owned = world(quick=3), Receiver(), {("t", 0): 1}
    store = Counting(there)
    with dispatching(store, receiver, owned=lambda: owned):
        eventually(lambda: len(receiver.got) == 3, 60)
        owned = {}
        there.tries.update(world(later=2).tries)
        seen = store.looked_up
        owned = {("t", 0): 2}
        eventually(lambda: len(receiver.got) == 5, 60)
    assert (store.loads, store.looked_up) == (2, seen + 2)


def test_a_notifier_that_has_lost_everything_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a target has more than the agenda holds."""
    monkeypatch.setattr("meterfold_service.notify.dispatcher._LOAD_SECONDS", 0.0)
    there, receiver, owned = world(slow=30), Receiver(), {("t", 0): 1}
    store = Counting(there)
    with dispatching(store, receiver, most_held=5, owned=lambda: owned) as (_, check, _):
        eventually(lambda: receiver.under_way[SLOW] == PER_TARGET, 60)
        owned = {}
        receiver.released.set()
        eventually(lambda: len(receiver.got) == PER_TARGET, 60, "what was under way ends")
        owned = {("t", 0): 2}
        eventually(lambda: len(receiver.got) == 30, 60, "and the rest when it is back")
        check()


def opened(row: TryRow) -> OpenDelivery:
    key = DeliveryKey(row.event_id, row.channel, row.target)
    return OpenDelivery(key, row.occurred_at, row.topic, row.partition, row.due_at)


def test_a_fatal_error_ends_it() -> None:
    with dispatching(Failing(world(quick=1), [Fatal("no such table")]), Receiver()) as (_, check, _):

        def ended() -> bool:
            try:
                check()
            except Fatal:
                return True
            return False

        eventually(ended, 30)
