"""One redrive: what is planned, claimed, sent and refused, and what became of it."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from meterfold_processor.kafka.topics import check_source
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.usage import UsageRecorded
from meterfold_service.rejected.corrections import Correction, corrected, too_early_or_late
from meterfold_service.rejected.decoding import decoded_event
from meterfold_service.rejected.reading import read_aliases, redrive_state
from meterfold_service.rejected.redriving import Redriver
from meterfold_service.rejected.results import Position, RedriveReport, RedriveState, Refusal
from meterfold_sink.fold_state import read_progress, read_rules
from meterfold_sink.migrate import check_schema
from meterfold_sink.rejected import Claim, Place, RejectedRow, RowKey, StoredRedrive, read_redrives, results_at

if TYPE_CHECKING:
    from meterfold_schemas.catalog import EventSchema
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_sink.client import Client

__all__ = ["Run"]

_SHOWN: Final = 20
_LOOK_SECONDS: Final = 0.2
_LOOKED_UP: Final = 1_000
_WAITING: Final = 1
"""Batches whose claims settle while the next one is read and claimed."""


class Run:
    """One redrive: what was planned, sent and refused so far."""

    def __init__(
        self,
        client: Client,
        kafka: KafkaSettings | None,
        *,
        read_as: EventSchema | None,
        by: str,
        note: str,
        now: Callable[[], datetime],
    ) -> None:
        """`kafka` None: a dry run. Raises Retryable or Fatal."""
        check_schema(client)
        self._client = client
        self._by, self._note, self._now = by, note, now
        self._read_as = read_as
        self._aliases = read_aliases(client)
        self._rules = read_rules(client)
        self._redriver: Redriver | None = None
        if kafka is not None:
            check_source(kafka, self._rules)
            self._redriver = Redriver(client, kafka)
        self.looked_at = 0
        self._sent = SentEvents()
        self._claimed: list[dict[Place, Claim]] = []
        self._planned = 0
        self._already = 0
        self._refused_total = 0
        self._refused: list[Refusal] = []
        self._events: list[tuple[Position, UsageRecorded]] = []

    def take(self, messages: Sequence[tuple[RejectedRow, Correction]], *, named: bool) -> None:
        """Send these. `named`: somebody named each of them, so one that was sent otherwise before is refused; else it
        is left alone."""
        self.looked_at += len(messages)
        stored = read_redrives(self._client, [row.row_key for row, _ in messages])
        claims: dict[Place, Claim] = {}
        events: dict[Place, UsageRecorded] = {}
        for row, correction in messages:
            known = stored.get(row.place)
            try:
                event = self._event(row, correction, known, named=named)
            except InvalidUsage as error:
                self.refuse(row.place, str(error))
                continue
            if event is None:
                self._already += 1
                continue
            events[row.place] = event
            claims[row.place] = (
                Claim(row.received_at, event.key, event.to_bytes(), self._by, self._note)
                if known is None
                else known.claim
            )
        if self._redriver is None:
            self._planned += len(claims)
        elif claims:
            self._redriver.claim(claims)
            self._claimed.append(claims)
            self._send(_WAITING)
        room = _SHOWN - len(self._events)
        self._events += [(Position(*place), event) for place, event in list(events.items())[:room]]

    def refuse(self, place: Place, why: str) -> None:
        self._refused_total += 1
        if len(self._refused) < _SHOWN:
            self._refused.append(Refusal(Position(*place), why))

    def _send(self, waiting: int) -> None:
        """Send claimed batches until this many are left. Claims have to settle; the next batch is read meanwhile."""
        while self._redriver is not None and len(self._claimed) > waiting:
            claims = self._claimed.pop(0)
            done = self._redriver.send_claimed(claims)
            self._sent.add(done.sent.values())
            self._planned += len(done.sent)
            for place, other in done.lost.items():
                self.refuse(place, _redriven_otherwise(other))
            self._already += len(claims) - len(done.sent) - len(done.lost)

    def report(self, wait_seconds: float) -> RedriveReport:
        self._send(0)
        states = self._sent.states(self._client, wait_seconds)
        return RedriveReport(
            self._redriver is None,
            self._planned,
            self._already,
            self._refused_total,
            tuple(self._refused),
            tuple(self._events),
            states,
        )

    def _event(
        self, row: RejectedRow, correction: Correction, known: StoredRedrive | None, *, named: bool
    ) -> UsageRecorded | None:
        """The event to send; None if it was sent before. Raises InvalidUsage."""
        plain = correction == Correction()
        if known is not None:
            claimed = UsageRecorded.from_bytes(known.claim.value)
            if named and not plain and self._corrected(row, correction) != claimed:
                raise InvalidUsage(_redriven_otherwise(known))
            return claimed if known.sent is None else None
        event = self._corrected(row, correction)
        if problem := too_early_or_late(event, self._rules, self._now()):
            raise InvalidUsage(problem)
        return event

    def _corrected(self, row: RejectedRow, correction: Correction) -> UsageRecorded:
        return corrected(decoded_event(row.value, self._aliases, self._read_as), correction, row.received_at)


def _redriven_otherwise(known: StoredRedrive) -> str:
    event = UsageRecorded.from_bytes(known.claim.value)
    sent = "and not sent yet" if known.sent is None else f"and is the event at {Position(*known.sent)}"
    return (
        f"it was redriven with another correction on {known.at:%Y-%m-%d %H:%M:%S} UTC by {known.claim.by or 'unknown'} "
        f"{sent}: {'/'.join(event.identity)}, quantity {event.quantity:f}. A message is sent again as one event only"
    )


class SentEvents:
    """Where events were written: 16 bytes of memory for each."""

    def __init__(self) -> None:
        self._keys: dict[int, tuple[array[int], array[int]]] = {}
        """partition -> stamps and offsets."""

    def add(self, keys: Iterable[RowKey]) -> None:
        for partition, stamp, offset in keys:
            stamps, offsets = self._keys.setdefault(partition, (array("q"), array("q")))
            stamps.append(stamp)
            offsets.append(offset)

    def states(self, client: Client, wait_seconds: float) -> dict[RedriveState, int]:
        """How many are in which state, once all are folded or the time is up."""
        if not self._keys:
            return {}
        last = {partition: max(offsets) for partition, (_, offsets) in self._keys.items()}
        deadline = time.monotonic() + wait_seconds
        while True:
            reached = {partition: row.next_offset for partition, row in read_progress(client, list(last)).items()}
            if all(reached.get(partition, 0) > offset for partition, offset in last.items()):
                break
            if time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_SECONDS)
        states = Counter[RedriveState]()
        for partition, (stamps, offsets) in self._keys.items():
            for first in range(0, len(offsets), _LOOKED_UP):
                part = slice(first, first + _LOOKED_UP)
                places = [(partition, offset) for offset in offsets[part]]
                found = results_at(client, places, earliest=min(stamps[part]), latest=max(stamps[part]))
                for place in places:
                    states[redrive_state(place, found.get(place), reached)] += 1
        return dict(states)
