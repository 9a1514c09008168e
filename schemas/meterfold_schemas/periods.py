"""Period maths: integers of UTC microseconds since the epoch, half-open windows [start, end).

Pure functions without a clock. Weeks are ISO weeks and start on Monday; a lifetime starts at 0 and never ends.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.plurals import plural

__all__ = [
    "DAY",
    "DAY_SECONDS",
    "EPOCH_AFTER_MONDAY",
    "FINER",
    "HOUR",
    "KEPT",
    "MICROS_PER_SECOND",
    "RESET_PERIOD",
    "STORED_NUMBER",
    "WEEK",
    "Period",
    "from_micros",
    "micros",
    "period_end",
    "period_start",
    "span_text",
]

MICROS_PER_SECOND: Final = 1_000_000
DAY_SECONDS: Final = 86_400
#: Microseconds, as every time and span here.
HOUR: Final = 3_600 * MICROS_PER_SECOND
DAY: Final = 24 * HOUR
WEEK: Final = 7 * DAY
# 1970-01-01 was a Thursday, three days after a Monday.
EPOCH_AFTER_MONDAY: Final = 3 * DAY
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Period(StrEnum):
    """A window's length. The fold keeps those in KEPT; weekly and yearly are derived when read."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"
    LIFETIME = "lifetime"


#: The periods that the fold keeps, each with the number under which ClickHouse stores it (the Enum8 `period_type`) and
#: `usage.windows` carries it. A released number never changes; a new period takes the next free one.
STORED_NUMBER: Final = MappingProxyType({Period.HOURLY: 1, Period.DAILY: 2, Period.MONTHLY: 3, Period.LIFETIME: 4})

#: From the shortest to the longest, each behind the one in FINER.
KEPT: Final = tuple(STORED_NUMBER)

#: A period -> the longest one whose windows add up to its own; hours are the shortest.
FINER: Final = MappingProxyType(
    {
        Period.DAILY: Period.HOURLY,
        Period.WEEKLY: Period.DAILY,
        Period.MONTHLY: Period.DAILY,
        Period.YEARLY: Period.MONTHLY,
        Period.LIFETIME: Period.MONTHLY,
    }
)

#: A metric's reset_period -> the period of its windows.
RESET_PERIOD: Final = MappingProxyType(
    {
        "never": Period.LIFETIME,
        "hourly": Period.HOURLY,
        "daily": Period.DAILY,
        "weekly": Period.WEEKLY,
        "monthly": Period.MONTHLY,
        "yearly": Period.YEARLY,
    }
)


def period_start(period: Period, micros: int) -> int:
    """Start of the window of `period` that holds the instant `micros`."""
    match period:
        case Period.HOURLY:
            return micros - micros % HOUR
        case Period.DAILY:
            return micros - micros % DAY
        case Period.WEEKLY:
            return micros - (micros + EPOCH_AFTER_MONDAY) % WEEK
        case Period.MONTHLY:
            year, month = _year_and_month(micros // DAY)
            return _days_before(year, month) * DAY
        case Period.YEARLY:
            year, _ = _year_and_month(micros // DAY)
            return _days_before(year, 1) * DAY
        case Period.LIFETIME:
            return 0


def period_end(period: Period, start: int) -> int | None:
    """End (exclusive) of the window that starts at `start`; None for a lifetime."""
    match period:
        case Period.HOURLY:
            return start + HOUR
        case Period.DAILY:
            return start + DAY
        case Period.WEEKLY:
            return start + WEEK
        case Period.MONTHLY:
            year, month = _year_and_month(start // DAY)
            return _days_before(year + month // 12, month % 12 + 1) * DAY
        case Period.YEARLY:
            year, _ = _year_and_month(start // DAY)
            return _days_before(year + 1, 1) * DAY
        case Period.LIFETIME:
            return None


def micros(moment: datetime) -> int:
    """UTC microseconds of an aware datetime, exactly. Raises InvalidUsage for a naive one."""
    try:
        since = moment - _EPOCH
    except TypeError:
        raise InvalidUsage(f"timestamp {moment!r:.80} must be a timezone-aware datetime") from None
    return (since.days * DAY_SECONDS + since.seconds) * MICROS_PER_SECOND + since.microseconds


def from_micros(value: int) -> datetime:
    """The aware UTC datetime of UTC microseconds. Raises OverflowError outside of the years 1 to 9999."""
    return _EPOCH + timedelta(microseconds=value)


def span_text(span: int) -> str:
    """A span of microseconds in the largest unit that says it exactly: "35 days", "90 minutes", "1 second"."""
    seconds, rest = divmod(span, MICROS_PER_SECOND)
    for size, unit in ((DAY_SECONDS, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if not rest and seconds >= size and seconds % size == 0:
            return plural(seconds // size, unit)
    return f"{span / MICROS_PER_SECOND:g} seconds"


# The proleptic Gregorian calendar in integers (H. Hinnant, "chrono-compatible low-level date algorithms"): unlike
# datetime it has no last year, so a damaged timestamp cannot raise in the middle of a batch.


def _year_and_month(days: int) -> tuple[int, int]:
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    from_march = (5 * day_of_year + 2) // 153
    month = from_march + 3 if from_march < 10 else from_march - 9
    return year_of_era + era * 400 + (month <= 2), month


def _days_before(year: int, month: int) -> int:
    """Days from the epoch to the first day of a month."""
    shifted = year - (month <= 2)
    era, year_of_era = divmod(shifted, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468
