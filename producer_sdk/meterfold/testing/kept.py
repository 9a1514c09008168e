"""What was recorded, and what a test asks about it."""

from __future__ import annotations

import threading
from collections import defaultdict
from decimal import Decimal
from typing import Any, Final

from meterfold.account import Cut
from meterfold.delivery import Delivery, DeliveryCallback, ReportCallback
from meterfold.transport import Transport
from meterfold.values import Id, Quantity, id_text
from meterfold_schemas.plurals import plural
from meterfold_schemas.quantities import to_decimal, to_unscaled
from meterfold_schemas.usage import UsageRecorded

__all__ = ["Kept", "KeptEvents"]

_SHOWN: Final = 20


class Kept(Transport):
    """Keeps every event and reports it as delivered at once, on partition 0."""

    def __init__(self, on_delivery: DeliveryCallback | None) -> None:
        super().__init__()
        self._on_delivery = on_delivery
        self._keeping = threading.Lock()
        self.events: list[UsageRecorded] = []

    def send(
        self, key: bytes, value: bytes, wait: float | None = None, on_report: ReportCallback | None = None
    ) -> None:
        event = UsageRecorded.from_bytes(value)
        with self._keeping:
            if self._closed:
                raise self._after_close()
            offset = self._account.recorded
            self._account.recorded += 1
            generation = self._account.present
            generation.outstanding += 1
            self.events.append(event)
        self._account.delivered(generation)
        report = Delivery(event.id, 0, offset)
        if on_report is not None:
            on_report(report)
        if self._on_delivery is not None:
            self._on_delivery(report)

    def wait_for(self, cut: Cut, timeout: float | None, idle: float | None = None) -> None:
        """Nothing is ever outstanding."""

    def free(self) -> None:
        """Nothing is held."""

    @property
    def trouble(self) -> str | None:
        return None

    @property
    def freed(self) -> bool:
        return self._closed


class KeptEvents:
    """Questions about the events of a meter. Totals count an identity once, as the installation does: a metric,
    subject (with its organization) and id that were recorded before do not count again.
    """

    _kept: Kept

    @property
    def recorded(self) -> list[UsageRecorded]:
        """Every event in the order of recording, repeated ones too."""
        return list(self._kept.events)

    def clear(self) -> None:
        """Forget the events."""
        self._kept.events.clear()

    def total(self, metric_key: str, subject: tuple[str, Id] | None = None, *, org_id: Id | None = None) -> Decimal:
        """The sum of the quantities, of one subject if it is given. 0 without events."""
        return sum((event.quantity for event in self._counted(metric_key, subject, org_id)), Decimal(0))

    def totals(self, metric_key: str) -> dict[tuple[str, str], Decimal]:
        """The sum for each subject: (subject_type, subject_id) -> total."""
        found: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for event in self._counted(metric_key, None, None):
            found[event.subject_type, event.subject_id] += event.quantity
        return dict(found)

    def assert_recorded(
        self,
        metric_key: str,
        subject: tuple[str, Id] | None = None,
        quantity: Quantity | None = None,
        *,
        times: int | None = None,
        **fields: Any,
    ) -> None:
        """AssertionError unless an event with these values was recorded, or exactly `times` events.

        `fields` are further fields of UsageRecorded (id, org_id, source, ...). What is not given may be anything.
        """
        wanted: dict[str, Any] = {"metric_key": metric_key, **fields}
        if subject is not None:
            wanted |= {"subject_type": subject[0], "subject_id": id_text("subject_id", subject[1])}
        if quantity is not None:
            wanted["quantity"] = to_decimal(to_unscaled(quantity))
        found = sum(
            1 for event in self._kept.events if all(getattr(event, name) == value for name, value in wanted.items())
        )
        if found != times if times is not None else not found:
            expected = "at least once" if times is None else f"exactly {plural(times, 'time')}"
            shown = "\n".join(f"  {_line(event)}" for event in self._kept.events[-_SHOWN:]) or "  nothing"
            what = ", ".join(f"{name}={value}" for name, value in wanted.items())
            raise AssertionError(
                f"expected {what} {expected}, found {found} of {plural(len(self._kept.events), 'event')}. "
                f"Recorded (the last {_SHOWN}):\n{shown}"
            )

    def assert_nothing_recorded(self) -> None:
        """AssertionError if any event was recorded."""
        if self._kept.events:
            raise AssertionError(f"expected no event, found {len(self._kept.events)}: {_line(self._kept.events[0])}")

    def _counted(self, metric_key: str, subject: tuple[str, Id] | None, org_id: Id | None) -> list[UsageRecorded]:
        of_subject = None if subject is None else (subject[0], id_text("subject_id", subject[1]))
        of_org = None if org_id is None else id_text("org_id", org_id)
        first = {event.identity: event for event in reversed(self._kept.events)}
        return [
            event
            for event in first.values()
            if event.metric_key == metric_key
            and (of_subject is None or (event.subject_type, event.subject_id) == of_subject)
            and (of_org is None or event.org_id == of_org)
        ]


def _line(event: UsageRecorded) -> str:
    return f"{event.metric_key} ({event.subject_type}, {event.subject_id}) {event.quantity:f} id={event.id}"
