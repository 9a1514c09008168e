"""`metering.periods`: aggregate, which closes a period, and what was closed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import DAY, MICROS_PER_SECOND, Period, from_micros, micros, period_end, period_start
from meterfold_service.errors import OperationError, PeriodNotClosed, PeriodNotEnded, WindowsDiffer
from meterfold_service.pages import Page, RowOrder, check_page, next_offset, offset_of
from meterfold_service.periods.closing import close_periods, closing_of, wait_until_folded
from meterfold_service.periods.results import (
    Adjustment,
    CloseRun,
    ClosingFailure,
    DuePeriod,
    DuePeriods,
    PeriodClosing,
)
from meterfold_sink.adjustments import ADJUSTMENT_KEYS, list_adjustments
from meterfold_sink.fold_state import read_rules
from meterfold_sink.period_closings import CLOSED, LATEST_CLOSINGS, list_closings, period_states, read_closings
from meterfold_sink.server import server_now

if TYPE_CHECKING:
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_sink.client import Client
    from meterfold_sink.pool import ClientPool
    from meterfold_sink.rules import FoldRules

__all__ = ["MAX_DUE", "Periods"]

MAX_DUE: Final = 1000
"""The most due periods that one call closes by default."""
#: Periods without a closing are counted for this long after their records have expired.
_EXPIRED_SHOWN: Final = 62 * DAY
#: Hours of one day, and days of one month, are recounted in one go.
_TOGETHER: Final = {Period.HOURLY: Period.DAILY, Period.DAILY: Period.MONTHLY, Period.MONTHLY: Period.MONTHLY}

_CLOSINGS: Final = RowOrder("closings", {"latest": LATEST_CLOSINGS}, "latest")
_ADJUSTMENTS: Final = RowOrder("adjustments", {"period": ADJUSTMENT_KEYS}, "period")
_DUE: Final = "due"

ProgressCallback = Callable[[int, int, str], None]
Outcomes = list[tuple[Period, int, PeriodClosing | OperationError]]
"""(kind, start, what came of closing it) of each period."""


class Periods:
    """The operations on periods; for any thread. Every one raises Retryable or Fatal, and what it says itself.

    Periods are hourly, daily or monthly, in UTC. Weeks and years are sums of days and months, and never closed.
    """

    def __init__(
        self,
        clients: ClientPool,
        kafka: Callable[[], KafkaSettings],
        now: Callable[[], datetime],
        wait_seconds: float,
    ) -> None:
        self._clients = clients
        self._kafka = kafka
        self._now = now
        self._wait_seconds = wait_seconds

    def close(
        self, period: str, start: datetime, metric_key: str | None = None, *, wait_seconds: float | None = None
    ) -> PeriodClosing:
        """aggregate: close the period that begins at `start`, for one metric or (None) for every metric.

        Waits until everything appended before the call is folded, recounts the windows from the records, compares, and
        stores the numbers with their checksum. The same numbers again are the closing that exists; a late event makes
        another one. `wait_seconds`: for the fold, else that of Metering. Raises WindowsDiffer, PeriodRecordsExpired,
        PeriodNotEnded, NotFoldedInTime and InvalidUsage; then nothing is stored.
        """
        ((_, _, outcome),) = self._close(_closable(period), [_start(period, start)], metric_key or "", wait_seconds)
        if isinstance(outcome, OperationError):
            raise outcome
        return outcome

    def close_many(
        self,
        period: str,
        start: datetime,
        end: datetime,
        metric_key: str | None = None,
        *,
        limit: int | None = None,
        wait_seconds: float | None = None,
        tell: ProgressCallback = lambda done, total, text: None,
    ) -> CloseRun:
        """Close every period of a kind that lies in [start, end), which begins and ends with one, as `close` does; the
        first `limit` of them. A period that cannot be closed is a failure in the answer and does not keep the others
        from it. Raises PeriodNotEnded if one of them has not ended, NotFoldedInTime and InvalidUsage."""
        kind = _closable(period)
        first, last = _start(period, start), _start(period, end, "end")
        starts = list(itertools.takewhile(lambda one: one < last, _following(kind, first)))
        if not starts:
            raise InvalidUsage(f"end {end.isoformat()} must be after start {start.isoformat()}")
        chosen = starts[:limit]
        outcomes = self._close(kind, chosen, metric_key or "", wait_seconds, tell)
        return CloseRun(*_sorted_out(outcomes), len(starts) - len(chosen))

    def close_due(
        self,
        periods: Sequence[str] = tuple(CLOSED),
        *,
        limit: int = MAX_DUE,
        wait_seconds: float | None = None,
        tell: ProgressCallback = lambda done, total, text: None,
    ) -> CloseRun:
        """Close every period that is `due`, the earliest first, at most `limit`: what a scheduler calls. Safe to repeat
        and to run twice at once. Raises NotFoldedInTime and InvalidUsage."""
        due = self.due(periods, limit=limit)
        if not due.rows:
            return CloseRun((), (), expired=due.expired)
        starts = {kind: [micros(one.period_start) for one in due.rows if one.period_type == kind] for kind in CLOSED}
        with self._clients.client() as client:
            outcomes = self._close_ended(client, read_rules(client), starts, "", wait_seconds, tell)
        return CloseRun(*_sorted_out(outcomes), due.total - len(due.rows), due.expired)

    def due(
        self, periods: Sequence[str] = tuple(CLOSED), *, limit: int = MAX_DUE, cursor: str | None = None
    ) -> DuePeriods:
        """Periods that have ended, with their grace period, and have usage, but no closing of every metric, or one that
        a late event has moved since. From the first window whose records are all kept. Raises InvalidUsage.

        Reads a few columns of the windows of these months."""
        kinds = [_closable(period) for period in periods]
        offset = offset_of(_DUE, cursor)
        if limit < 1:
            raise InvalidUsage(f"limit must be 1 or more, not {limit}")
        with self._clients.client() as client:
            rules = read_rules(client)
            now = self._time(client)
            kept_from = self._kept_from(client, rules)
            # The latest period that has ended begins one period before.
            ended = {kind: period_start(kind, now - rules.grace_seconds * MICROS_PER_SECOND) for kind in kinds}
            states = period_states(client, kinds, kept_from - _EXPIRED_SHOWN, ended)
        open_ones = [one for one in states if not one.is_closed or one.has_moved]
        rows = [one for one in open_ones if micros(one.period_start) >= kept_from]
        return DuePeriods(
            tuple(
                DuePeriod(one.period_type, one.period_start, "moved" if one.is_closed else "not closed")
                for one in rows[offset : offset + limit]
            ),
            len(rows),
            len(open_ones) - len(rows),
            next_offset(_DUE, offset, limit, len(rows)),
        )

    def get(
        self, period: str, start: datetime, metric_key: str | None = None, *, revision: int | None = None
    ) -> PeriodClosing:
        """A closing of one period: the newest, or that revision. Raises PeriodNotClosed and InvalidUsage."""
        kind, first = _closable(period), _start(period, start)
        with self._clients.client() as client:
            rows = read_closings(client, kind, [first], metric_key or "").get(first, [])
        for row in reversed(rows):
            if revision is None or row.revision == revision:
                return closing_of(row)
        raise PeriodNotClosed(kind.value, from_micros(first), metric_key or "", revision, len(rows))

    def list(
        self,
        period: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        metric_key: str | None = None,
        newest: bool = False,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[PeriodClosing]:
        """Closings, the latest period first: of periods that begin in [start, end), of one metric ("": of every metric
        together), and with `newest` only the newest of each period. Raises InvalidUsage."""
        check_page(limit, offset)
        _, after = _CLOSINGS.start(None, cursor)
        with self._clients.client() as client:
            page = list_closings(
                client,
                period=None if period is None else _closable(period),
                start=None if start is None else micros(start),
                end=None if end is None else micros(end),
                metric_key=metric_key,
                newest=newest,
                limit=limit,
                offset=offset,
                after=after,
            )
        return Page(page.total, tuple(map(closing_of, page.rows)), cursor=_CLOSINGS.cursor(None, page.end))

    def adjustments(
        self,
        period: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        metric_key: str | None = None,
        org_id: str | None = None,
        subject: tuple[str, str] | None = None,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[Adjustment]:
        """What has moved since it was closed, in periods that begin in [start, end): what to credit or invoice. One row
        per window and closing after which it moved. Raises InvalidUsage."""
        check_page(limit, offset)
        _, after = _ADJUSTMENTS.start(None, cursor)
        with self._clients.client() as client:
            page = list_adjustments(
                client,
                period=None if period is None else _closable(period),
                start=None if start is None else micros(start),
                end=None if end is None else micros(end),
                metric_key=metric_key,
                org_id=org_id,
                subject=subject,
                limit=limit,
                offset=offset,
                after=after,
            )
        rows = tuple(Adjustment(**{**row, "offsets": tuple(row["offsets"])}) for row in page.rows)
        return Page(page.total, rows, cursor=_ADJUSTMENTS.cursor(None, page.end))

    def _close(
        self,
        kind: Period,
        starts: Sequence[int],
        metric_key: str,
        wait_seconds: float | None,
        tell: ProgressCallback = lambda done, total, text: None,
    ) -> Outcomes:
        with self._clients.client() as client:
            rules = read_rules(client)
            self._require_ended(client, rules, kind, starts[-1])
            return self._close_ended(client, rules, {kind: starts}, metric_key, wait_seconds, tell)

    def _close_ended(
        self,
        client: Client,
        rules: FoldRules,
        starts: Mapping[Period, Sequence[int]],
        metric_key: str,
        wait_seconds: float | None,
        tell: ProgressCallback,
    ) -> Outcomes:
        """Close the periods of each kind that begin at `starts[kind]`, once what was recorded before is folded."""
        outcomes: Outcomes = []
        total = sum(map(len, starts.values()))
        tell(0, total, "waiting for the fold")
        seconds = self._wait_seconds if wait_seconds is None else wait_seconds
        next_offsets = wait_until_folded(self._kafka(), client, rules, seconds, lambda text: tell(0, total, text))
        for kind, of_kind in starts.items():
            for together in _chunks(kind, of_kind):
                tell(len(outcomes), total, f"{kind} from {from_micros(together[0]):%Y-%m-%d}")
                kept_from = self._kept_from(client, rules)
                found = close_periods(client, rules, next_offsets, kind, together, metric_key, kept_from)
                outcomes += ((kind, start, outcome) for start, outcome in zip(together, found, strict=True))
        return outcomes

    def _require_ended(self, client: Client, rules: FoldRules, kind: Period, start: int) -> None:
        end = period_end(kind, start)
        assert end is not None
        closable = end + rules.grace_seconds * MICROS_PER_SECOND
        if closable > self._time(client):
            raise PeriodNotEnded(kind.value, from_micros(start), from_micros(closable))

    def _kept_from(self, client: Client, rules: FoldRules) -> int:
        """Records with timestamps from here on are kept."""
        return self._time(client) - rules.kept_seconds * MICROS_PER_SECOND

    def _time(self, client: Client) -> int:
        """The earlier of our clock and the server's: a fast clock must not close a period too early."""
        return min(micros(self._now()), server_now(client))


def _closable(period: str) -> Period:
    if period in CLOSED:
        return Period(period)
    derived = {Period.WEEKLY: "days", Period.YEARLY: "months"}.get(Period(period)) if period in set(Period) else None
    raise InvalidUsage(
        f"period {period!r} cannot be closed: it must be {', '.join(CLOSED[:-1])} or {CLOSED[-1]}"
        + (f". A {period} total is the sum of its {derived}: close those" if derived else "")
    )


def _start(period: str, start: datetime, name: str = "start") -> int:
    """Exactly the start of a period: in another time zone it is easily one too early."""
    kind, moment = Period(period), micros(start)
    first = period_start(kind, moment)
    if first != moment:
        raise InvalidUsage(
            f"{name} {start.isoformat()} is not the start of a {kind} period in UTC; the one that contains it starts "
            f"at {from_micros(first).isoformat()}"
        )
    return moment


def _following(kind: Period, start: int) -> Iterator[int]:
    while True:
        yield start
        end = period_end(kind, start)
        assert end is not None
        start = end


def _chunks(kind: Period, starts: Iterable[int]) -> Iterator[list[int]]:
    for _, together in itertools.groupby(sorted(starts), lambda start: period_start(_TOGETHER[kind], start)):
        yield list(together)


def _sorted_out(outcomes: Outcomes) -> tuple[tuple[PeriodClosing, ...], tuple[ClosingFailure, ...]]:
    closings: list[PeriodClosing] = []
    failures: list[ClosingFailure] = []
    for kind, start, outcome in outcomes:
        if isinstance(outcome, PeriodClosing):
            closings.append(outcome)
            continue
        found = (outcome.total, outcome.differences) if isinstance(outcome, WindowsDiffer) else (0, ())
        failures.append(ClosingFailure(kind.value, from_micros(start), outcome.code, str(outcome), *found))
    return tuple(closings), tuple(failures)
