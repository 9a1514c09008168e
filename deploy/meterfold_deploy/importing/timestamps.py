"""Timestamps of a file, read strictly: a moment, never a guess.

Text is ISO 8601 with a UTC offset. Without one the file's time zone has to be stated, and a local time that its clocks
showed twice or never is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from meterfold_deploy.exits import WrongInput
from meterfold_schemas.errors import InvalidUsage

_FORM = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(?:\.(\d{1,6})0*)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local times are counted from here, too

Zone = tzinfo | None


def zone_named(name: str | None) -> Zone:
    """The time zone of `--timezone`. Raises WrongInput for a name that the machine does not know."""
    if name is None:
        return None
    if name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise WrongInput(
            f"--timezone {name}: no such time zone; give UTC or an IANA name such as Europe/Berlin"
        ) from None


def from_text(text: str, zone: Zone) -> datetime:
    """An aware datetime. Raises InvalidUsage."""
    if _FORM.fullmatch(text) is None:
        raise InvalidUsage(
            f"timestamp {text!r} is not ISO 8601 such as 2026-11-22T10:00:00.123456Z (at most 6 decimals of a second)"
        )
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidUsage(f"timestamp {text!r}: {error}") from None
    return moment if moment.tzinfo is not None else _in_zone(moment, zone, text)


def from_epoch(units_per_second: int, zone: Zone, *, local: bool) -> Callable[[int], datetime]:
    """Reads integers since 1970: moments, or (`local`) wall-clock times of `zone`. The reader raises InvalidUsage."""

    def read(value: int) -> datetime:
        micros, rest = divmod(value * 1_000_000, units_per_second)
        if rest:
            raise InvalidUsage(f"timestamp {value} has nanoseconds; round it to microseconds yourself")
        try:
            moment = _EPOCH + timedelta(microseconds=micros)
        except OverflowError:
            raise InvalidUsage(f"timestamp {value} is out of range") from None
        return _in_zone(moment, zone, str(moment)) if local else moment.replace(tzinfo=UTC)

    return read


def _in_zone(moment: datetime, zone: Zone, text: str) -> datetime:
    if zone is None:
        raise InvalidUsage(f"timestamp {text!r} has no time zone; state the file's with --timezone, such as UTC")
    early, late = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
    if early.utcoffset() != late.utcoffset():
        raise InvalidUsage(f"timestamp {text!r}: the clocks of {zone} showed that twice or never; give its UTC offset")
    return early
