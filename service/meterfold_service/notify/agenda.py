"""When which delivery is tried next. Pure; for one thread.

An agenda is a hint: before a try the dispatcher reads from the store how the delivery is now. A delivery that another
notifier has finished costs a look-up; one that is missing here would not be sent. None is missing: everything open is
loaded after the progress of a partition was read, and what this process plans later, or users request, is added.

Of each target at most HELD deliveries are held, those that are due first. The others are in the store only, and
`wants_more` says when to load them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Final

from meterfold_sink.notification_tries import ACTIVE, TryRow
from meterfold_sink.notifications import DeliveryKey, DueDelivery, OpenDelivery

__all__ = ["HELD", "PER_TARGET", "Agenda"]

PER_TARGET: Final = 4
"""Tries to one target at the same time."""
HELD: Final = 1_000


@dataclass(slots=True)
class _Queue:
    """The deliveries to one target. `times` also has entries that are out of date, which `held` tells apart.
    `rest_from`: no delivery that is not held is due before; None: all of them are held."""

    limit: int
    held: dict[DeliveryKey, OpenDelivery] = field(default_factory=dict)
    times: list[tuple[datetime, DeliveryKey]] = field(default_factory=list)
    rest_from: datetime | None = None

    def put(self, one: OpenDelivery) -> None:
        self.held[one.key] = one
        heappush(self.times, (one.due_at, one.key))
        if len(self.held) > self.limit:
            last = max(self.held.values(), key=lambda held: held.due_at)
            del self.held[last.key]
            self.others_from(last.due_at)
        if len(self.times) > 4 * self.limit:
            self.times = [(held.due_at, key) for key, held in self.held.items()]
            heapify(self.times)

    def others_from(self, due_at: datetime) -> None:
        self.rest_from = due_at if self.rest_from is None else min(self.rest_from, due_at)

    def first(self) -> OpenDelivery | None:
        """The one that is due first."""
        while self.times:
            due_at, key = self.times[0]
            held = self.held.get(key)
            if held is not None and held.due_at == due_at:
                return held
            heappop(self.times)
        return None


class Agenda:
    """Each delivery that was chosen has to be settled, and each that is settled as due has to end."""

    def __init__(self, most_held: int = HELD) -> None:
        self.most_held = most_held
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._again: set[DeliveryKey] = set()
        """Held deliveries that were added once more: a user may have requested one while its try is under way."""

    def load(self, found: Iterable[OpenDelivery]) -> None:
        """Replace everything by what is open in the store: of each target the first `most_held`."""
        self._queues, self._again = {}, set()
        self.add(found)
        for queue in self._queues.values():
            if len(queue.held) >= self.most_held:
                queue.others_from(max(held.due_at for held in queue.held.values()))

    def add(self, found: Iterable[OpenDelivery]) -> None:
        """Deliveries that may be open."""
        for one in found:
            queue = self._queues.get(one.key[1:])
            held = None if queue is None else queue.held.get(one.key)
            if held is not None:
                self._again.add(one.key)
            if held is None or one.due_at < held.due_at:
                self._put(one)

    def keep(self, owned: Collection[tuple[str, int]]) -> None:
        """Forget the deliveries of every other (topic, partition)."""
        if not owned:
            self._queues = {}
        for queue in self._queues.values():
            queue.held = {key: one for key, one in queue.held.items() if (one.topic, one.partition) in owned}
        self._queues = {target: queue for target, queue in self._queues.items() if queue.held or queue.rest_from}

    def choose(
        self, now: datetime, owned: Collection[tuple[str, int]], busy: Collection[DeliveryKey], most: int
    ) -> list[OpenDelivery]:
        """At most `most` deliveries of the `owned` (topic, partition) that are due, the longest due ones first, and of
        each target no more than may be sent beside those that are `busy`."""
        under_way: dict[tuple[str, str], int] = {}
        for key in busy:
            under_way[key[1:]] = under_way.get(key[1:], 0) + 1
        chosen: dict[DeliveryKey, OpenDelivery] = {}
        lost: list[DeliveryKey] = []
        for target, queue in self._queues.items():
            free = PER_TARGET - under_way.get(target, 0)
            while free > 0 and (first := queue.first()) is not None and first.due_at <= now:
                heappop(queue.times)
                if (first.topic, first.partition) not in owned:
                    lost.append(first.key)
                elif first.key in busy:
                    self._again.add(first.key)  # until its try has ended
                elif first.key not in chosen:
                    chosen[first.key] = first
                    free -= 1
        for key in lost:
            self._remove(key)
        found = sorted(chosen.values(), key=lambda one: one.due_at)
        for later in found[most:]:
            self._put(later)
        return found[:most]

    def settle(self, chosen: Sequence[OpenDelivery], states: Sequence[DueDelivery], now: datetime) -> list[DueDelivery]:
        """Those of the `chosen` that are due, as the store has read them; the others are put back or over."""
        current = {state.key: state for state in states}
        due: list[DueDelivery] = []
        for one in chosen:
            state = current.get(one.key)
            if state is None:
                self._remove(one.key)
            elif state.due_at > now:
                self._put(one._replace(due_at=state.due_at))
            else:
                due.append(state)
        return due

    def ended(self, row: TryRow) -> None:
        """A try has ended: the delivery is over, or has its next one."""
        key = DeliveryKey(row.event_id, row.channel, row.target)
        one = OpenDelivery(key, row.occurred_at, row.topic, row.partition, row.due_at)
        if key in self._again:
            self._again.discard(key)
            self._put(one._replace(due_at=row.ended_at or row.due_at))
        elif row.state in ACTIVE:
            self._put(one)
        else:
            self._remove(key)

    def wants_more(self, now: datetime) -> bool:
        """Whether a target has deliveries in the store only that may be due, and none left here that is."""
        for queue in self._queues.values():
            if queue.rest_from is not None and queue.rest_from <= now:
                first = queue.first()
                if first is None or first.due_at > now:
                    return True
        return False

    @property
    def complete(self) -> bool:
        """Whether every open delivery is here."""
        return all(queue.rest_from is None for queue in self._queues.values())

    def waiting(self) -> dict[str, tuple[int, datetime]]:
        """channel -> the deliveries that are here, and the time of the oldest event among them."""
        times: dict[str, list[datetime]] = {}
        for (channel, _), queue in self._queues.items():
            times.setdefault(channel, []).extend(one.occurred_at for one in queue.held.values())
        return {channel: (len(found), min(found)) for channel, found in times.items() if found}

    def _put(self, one: OpenDelivery) -> None:
        self._queues.setdefault(one.key[1:], _Queue(self.most_held)).put(one)

    def _remove(self, key: DeliveryKey) -> None:
        self._again.discard(key)
        queue = self._queues.get(key[1:])
        if queue is not None:
            queue.held.pop(key, None)
            if not queue.held and queue.rest_from is None:
                del self._queues[key[1:]]
