"""Deliberately broken notifiers: each does without one rule, and the random histories notice each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final
from uuid import uuid4

from meterfold_service.notify.consumer import Planned
from meterfold_service.notify.planning import Source
from meterfold_sink.notification_tries import BEGUN, ENDED, TryRow
from meterfold_sink.notifications import DueDelivery, OpenDelivery
from simulation.notify.world import Life, Variant

__all__ = ["VARIANTS"]


class ProgressFirst(Variant):
    """The progress row is written before the deliveries."""

    def plan(self, life: Life, sources: list[Source], position: int) -> None:
        life.store.write_progress({("log", 0): position})
        super().plan(life, sources, position)


class CommitsFirst(Variant):
    """The offset of the group is committed before the plan is stored, and decides where to start."""

    def plan(self, life: Life, sources: list[Source], position: int) -> None:
        life.here.committed = max(life.here.committed, position)
        super().plan(life, sources, position)

    def begin(self, life: Life) -> int:
        return life.here.committed


class BeginsAtCommit(Variant):
    """The offset of the group decides where to start, which a restored ClickHouse does not take back."""

    def begin(self, life: Life) -> int:
        return life.here.committed


class KnowsEvents(Variant):
    """An event of which one delivery is planned counts as planned, although a part of an insert may be there."""

    def plan(self, life: Life, sources: list[Source], position: int) -> None:
        known = {key.event_id for key in life.store.known([source.event.event_id for source in sources])}
        super().plan(life, [source for source in sources if source.event.event_id not in known], position)


class ForgetsRetries(Variant):
    """A retry is only known to the process that tried before: it is not due after a restart."""

    def due(self, life: Life, found: list[DueDelivery]) -> list[DueDelivery]:
        return [delivery for delivery in found if delivery.state != "retrying" or delivery.key in life.own]


class ForgetsKnown(Variant):
    """What another notifier has planned is not sent, although it may have been planned after the load."""

    def open(self, planned: Planned) -> Sequence[OpenDelivery]:
        new = {(row.event_id, row.channel, row.target) for row in planned.rows}
        return [one for one in planned.open if one.key in new]


class LoadsFirst(Variant):
    """What is open is loaded before the progress is read: what is planned in between is in neither."""

    def begin(self, life: Life) -> int:
        super().load(life)
        return super().begin(life)

    def load(self, life: Life) -> None:
        life.position = super().begin(life)


class LoadsOnce(Variant):
    """A partition that comes back is not loaded again."""

    def load(self, life: Life) -> None:
        if not life.loaded_ever:
            super().load(life)


class KeepsNoMore(Variant):
    """What the agenda cannot hold is forgotten."""

    def load_more(self, life: Life) -> None:
        """Nothing."""


class SendingIsSent(Variant):
    """A try that was interrupted counts as successful."""

    def due(self, life: Life, found: list[DueDelivery]) -> list[DueDelivery]:
        return [delivery for delivery in found if delivery.state != "sending"]


class EndsFirst(Variant):
    """A try is recorded as delivered before it is sent."""

    async def write(self, life: Life, row: TryRow) -> None:
        if row.stage == BEGUN:
            ended = replace(row, stage=ENDED, state="delivered", ended_at=row.started_at)
            life.persist(lambda: life.store.write([ended]))
        elif row.state != "delivered":
            await super().write(life, row)


class Unrecorded(Variant):
    """No row says that a try begins."""

    async def write(self, life: Life, row: TryRow) -> None:
        if row.stage == ENDED:
            await super().write(life, row)


class RandomId(Variant):
    """Each try has an id of its own."""

    def sent(self, delivery: DueDelivery, life: Life) -> DueDelivery:
        return replace(delivery, event_id=str(uuid4()))


class IdOfTheTry(Variant):
    """The id contains the number of the try."""

    def sent(self, delivery: DueDelivery, life: Life) -> DueDelivery:
        return replace(delivery, event_id=f"{delivery.event_id}.{delivery.attempt + 1}")


class TimeOfTheTry(Variant):
    """The contents have the time of the try."""

    def sent(self, delivery: DueDelivery, life: Life) -> DueDelivery:
        payload = json.loads(delivery.payload)
        payload["timestamp"] = life.here.world.now.isoformat()
        return replace(delivery, payload=json.dumps(payload))


VARIANTS: Final = (
    ProgressFirst,
    CommitsFirst,
    BeginsAtCommit,
    KnowsEvents,
    ForgetsRetries,
    ForgetsKnown,
    LoadsFirst,
    LoadsOnce,
    KeepsNoMore,
    SendingIsSent,
    EndsFirst,
    Unrecorded,
    RandomId,
    IdOfTheTry,
    TimeOfTheTry,
)
