"""What the screen shows: one look at the servers after the other, and the rates between two of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from meterfold_schemas.errors import MeterfoldError

if TYPE_CHECKING:
    from meterfold_service import Metering
    from meterfold_service.status.report import StatusReport
    from meterfold_sink.busiest import BusySubject
    from meterfold_sink.threshold_levels import JudgedWindow

__all__ = ["Frame", "Looks", "Rates", "Seen", "rates"]

T = TypeVar("T")

_OVER_SECONDS: Final = 10.0
"""Rates are averages of about this time."""


class Inspects(Protocol):
    def look(self) -> StatusReport:
        """The state of both servers; one that does not answer is part of it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The numbers of one look that rates are made of, summed over all partitions; None where a server did not say.
    `at` in seconds of a monotonic clock."""

    at: float
    recorded: int | None
    folded: int | None


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second; None where it is not known. `recorded`: offsets of usage.recorded, markers of transactions included.
    `folded`: counted, duplicate and rejected events."""

    recorded: float | None = None
    folded: float | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One look. The lists are None where ClickHouse did not answer; `pending_alerts` as well."""

    report: StatusReport
    rates: Rates
    subjects: tuple[BusySubject, ...] | None
    near: tuple[JudgedWindow, ...] | None
    pending_alerts: int | None


def rates(before: Seen, now: Seen) -> Rates:
    """Between two looks. A number that went back (a topic or a database that was made again) has no rate."""
    seconds = now.at - before.at

    def rate(first: int | None, last: int | None) -> float | None:
        if first is None or last is None or seconds <= 0 or last < first:
            return None
        return (last - first) / seconds

    return Rates(rate(before.recorded, now.recorded), rate(before.folded, now.folded))


class Looks:
    """Looks repeatedly, for one thread. A look takes up to about 10 s where a server does not answer."""

    def __init__(
        self, inspector: Inspects, service: Metering, rows: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`rows`: at most this many subjects and thresholds."""
        self._inspector = inspector
        self._service = service
        self._rows = rows
        self._clock = clock
        self._seen: deque[Seen] = deque()

    def look(self) -> Frame:
        report = self._inspector.look()
        now = _seen(report, self._clock())
        while len(self._seen) > 1 and now.at - self._seen[0].at > _OVER_SECONDS:
            self._seen.popleft()
        found = rates(self._seen[0], now) if self._seen else Rates()
        if report.silent:  # begin again once both answer: a rate over the gap would be no rate of now
            self._seen.clear()
        else:
            self._seen.append(now)
        if report.clickhouse.error is not None:
            return Frame(report, found, None, None, None)
        service = self._service
        return Frame(
            report,
            found,
            _or_none(lambda: service.usage.busiest(limit=self._rows)),
            _or_none(lambda: service.thresholds.nearest(limit=self._rows)),
            _or_none(lambda: service.alerts.list(status="pending", limit=1).total),
        )


def _seen(report: StatusReport, at: float) -> Seen:
    ends = [partition.log_end for partition in report.partitions]
    folded = [report.counted, report.duplicates, report.rejected]
    return Seen(
        at,
        None if not ends or None in ends else sum(end for end in ends if end is not None),
        None if None in folded else sum(count for count in folded if count is not None),
    )


def _or_none(ask: Callable[[], T]) -> T | None:
    """A server that goes away in the middle of a look is shown by the next one; tables that are missing, by the
    report."""
    try:
        return ask()
    except MeterfoldError:
        return None
