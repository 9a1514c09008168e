"""Deliberately broken notifiers: each does without one rule, and the random histories notice each."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final
from uuid import uuid4

from meterfold_service.notify.planning import Source
from meterfold_sink.notification_tries import BEGUN, ENDED, TryRow
from meterfold_sink.notifications import DueDelivery
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
    SendingIsSent,
    EndsFirst,
    Unrecorded,
    RandomId,
    IdOfTheTry,
    TimeOfTheTry,
)
