"""Which days an export by day writes. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import DAY_SECONDS, MICROS_PER_SECOND, from_micros
from meterfold_schemas.plurals import plural
from meterfold_service.exports.results import Format, What

__all__ = ["MAX_DAYS", "DayPlan", "file_name", "plan", "span_of"]

MAX_DAYS: Final = 5_000
_DAY: Final = DAY_SECONDS * MICROS_PER_SECOND


@dataclass(frozen=True, slots=True)
class DayPlan:
    """Days in order: to be written now, there already, still open, and over but not folded yet."""

    due: tuple[date, ...]
    present: tuple[date, ...]
    open: tuple[date, ...]
    behind: tuple[date, ...]


def file_name(what: What, day: date, kind: Format, *, complete: bool = True) -> str:
    """records-2026-10-01.parquet, or records-2026-10-01.incomplete.parquet."""
    return f"{what.value}-{day.isoformat()}{'' if complete else '.incomplete'}.{kind.value}"


def span_of(day: date) -> tuple[datetime, datetime]:
    """[start, end) of a day in UTC."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start, start + timedelta(days=1)


def plan(start: int, end: int, present: Collection[date], *, now: int, mark: int, grace: int) -> DayPlan:
    """The UTC days that have begun, from the one that holds `start` on, before `end`. All in UTC microseconds.

    A day is complete when its end plus `grace` has passed, by the wall clock (`now`) and by the fold (`mark`: all that
    arrived until then is folded). Raises InvalidUsage for more than MAX_DAYS days.
    """
    first = start - start % _DAY
    count = max(0, -((first - min(end, now)) // _DAY))
    if count > MAX_DAYS:
        raise InvalidUsage(f"an export by day writes at most {plural(MAX_DAYS, 'day')} at a time, not {count:,}")
    due, there, is_open, behind = list[date](), list[date](), list[date](), list[date]()
    for begin in range(first, first + count * _DAY, _DAY):
        day = from_micros(begin).date()
        over = begin + _DAY + grace
        if day in present:
            there.append(day)
        elif over > now:
            is_open.append(day)
        else:
            (due if over <= mark else behind).append(day)
    return DayPlan(tuple(due), tuple(there), tuple(is_open), tuple(behind))
