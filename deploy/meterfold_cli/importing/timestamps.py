"""Timestamps of a file, read strictly: a moment, never a guess.

Text is ISO 8601 with a UTC offset unless --time-format names another form. A time without an offset needs the file's
time zone, and a local time that its clocks showed twice or never is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from types import MappingProxyType
from typing import Final

from meterfold_cli.exits import WrongInput
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.zones import zone_of

__all__ = [
    "ISO",
    "UNIX",
    "TextReader",
    "Zone",
    "from_day",
    "from_epoch",
    "from_text",
    "remembering",
    "text_reader",
    "zone_named",
]

ISO: Final = "iso"
DATE: Final = "date"
#: Name of a --time-format that counts from 1970 -> its units in one second.
UNIX: Final = MappingProxyType({"unix": 1, "unix-ms": 1_000, "unix-us": 1_000_000, "unix-ns": 1_000_000_000})

_FORM = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(?:\.(\d{1,6})0*)?)?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_COUNT = re.compile(r"(-?\d{1,20})(?:\.(\d{1,20}))?", re.ASCII)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - local times are counted from here, too
_PROBE = datetime(2026, 11, 22, 13, 14, 15, tzinfo=UTC)
#: Digits of a count from 1970 in this century -> the format that it looks like.
_LOOKS_LIKE: Final = MappingProxyType({10: "unix", 13: "unix-ms", 16: "unix-us", 19: "unix-ns"})

Zone = tzinfo | None
#: Text of one cell -> an aware datetime. Raises InvalidUsage.
TextReader = Callable[[str], datetime]


def zone_named(name: str | None) -> Zone:
    """The time zone of `--timezone`. Raises WrongInput for a name that the machine does not know."""
    if name is None:
        return None
    try:
        return zone_of("UTC" if name.upper() == "Z" else name)
    except InvalidUsage:
        raise WrongInput(f"--timezone {name!r} is unknown; give UTC or an IANA name such as Europe/Berlin") from None


def text_reader(time_format: str, zone: Zone) -> TextReader:
    """Reads the text of one timestamp in the form that `--time-format` names. Raises WrongInput for an unknown one."""
    if time_format == ISO:
        return lambda text: from_text(text, zone)
    if time_format in UNIX:
        return _count_reader(time_format)
    if time_format == DATE:
        if zone is None:
            raise WrongInput(
                "--time-format date requires --timezone, because a day starts at a different time in each zone"
            )
        return lambda text: _from_day_text(text, zone)
    if "%" in time_format:
        return _pattern_reader(time_format, zone)
    raise WrongInput(
        f"--time-format {time_format!r} is unknown; give {ISO}, {', '.join(UNIX)}, {DATE}, or a strptime pattern "
        "such as '%d.%m.%Y %H:%M'"
    )


def remembering(read: TextReader, entries: int = 65_536) -> TextReader:
    """The same reader with a memory: the rows of a file share many times, and reading one costs more than a look-up."""
    known: dict[str, datetime] = {}

    def remembered(text: str) -> datetime:
        found = known.get(text)
        if found is None:
            found = read(text)
            if len(known) >= entries:
                known.clear()
            known[text] = found
        return found

    return remembered


def from_text(text: str, zone: Zone) -> datetime:
    """An aware datetime of ISO 8601. Raises InvalidUsage."""
    if _FORM.fullmatch(text) is None:
        raise InvalidUsage(
            f"timestamp {text!r} is not ISO 8601 such as 2026-11-22T10:00:00.123456Z (at most 6 decimals of a "
            f"second){_hint(text)}"
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
            raise InvalidUsage(f"timestamp {value} is finer than microseconds; round it to microseconds first")
        try:
            moment = _EPOCH + timedelta(microseconds=micros)
        except OverflowError:
            raise InvalidUsage(
                f"timestamp {value} is out of range: after the year 9999 at {units_per_second:,} units per second"
            ) from None
        return _in_zone(moment, zone, str(moment)) if local else moment.replace(tzinfo=UTC)

    return read


def from_day(day: date, zone: Zone) -> datetime:
    """The first moment of a day in `zone`. Raises InvalidUsage where clocks skip or repeat midnight."""
    return _in_zone(datetime(day.year, day.month, day.day), zone, day.isoformat())  # noqa: DTZ001 - zone comes next


def _from_day_text(text: str, zone: Zone) -> datetime:
    if _DAY.fullmatch(text) is None:
        raise InvalidUsage(f"timestamp {text!r} is not a date such as 2026-11-22, which --time-format date needs")
    try:
        return from_day(date.fromisoformat(text), zone)
    except ValueError as error:
        raise InvalidUsage(f"timestamp {text!r}: {error}") from None


def _count_reader(name: str) -> TextReader:
    def read(text: str) -> datetime:
        match = _COUNT.fullmatch(text)
        if match is None:
            raise InvalidUsage(f"timestamp {text!r} is not a number, which --time-format {name} needs")
        whole, fraction = match[1], match[2] or ""
        units, value = UNIX[name] * 10 ** len(fraction), int(whole + fraction)
        if value * 1_000_000 % units:
            raise InvalidUsage(f"timestamp {text!r} is finer than microseconds; round it to microseconds first")
        try:
            return from_epoch(units, None, local=False)(value)
        except InvalidUsage:
            likely = _LOOKS_LIKE.get(len(whole.lstrip("-")))
            hint = f"; it looks like --time-format {likely}" if likely else ""
            raise InvalidUsage(f"timestamp {text!r} is out of range for --time-format {name}{hint}") from None

    return read


def _pattern_reader(pattern: str, zone: Zone) -> TextReader:
    _check_pattern(pattern, zone)

    def read(text: str) -> datetime:
        try:
            moment = datetime.strptime(text, pattern)  # noqa: DTZ007 - the zone comes next
        except ValueError:
            raise InvalidUsage(f"timestamp {text!r} does not match --time-format {pattern!r}") from None
        return moment if moment.tzinfo is not None else _in_zone(moment, zone, text)

    return read


def _check_pattern(pattern: str, zone: Zone) -> None:
    """A time that is written and read with the pattern must come back, down to its hour if the pattern has one."""
    where = f"--time-format {pattern!r}"
    if "%Z" in pattern.replace("%%", ""):
        raise WrongInput(f"{where}: time zone names are ambiguous; use %z for an offset, or --timezone")
    try:
        back = datetime.strptime(_PROBE.strftime(pattern), pattern)  # noqa: DTZ007
    except (ValueError, re.error) as error:
        raise WrongInput(f"{where} is not a valid strptime pattern: {error}") from None
    if back.date() != _PROBE.date():
        raise WrongInput(f"{where} must contain year, month and day, such as %Y, %m and %d")
    if back.hour not in (0, _PROBE.hour):
        raise WrongInput(f"{where} does not distinguish morning and evening; use %H, or %I with %p")
    if back.tzinfo is None and zone is None:
        raise WrongInput(f"{where} has no UTC offset (%z); give the time zone of the file with --timezone, such as UTC")


def _in_zone(moment: datetime, zone: Zone, text: str) -> datetime:
    if zone is None:
        raise InvalidUsage(
            f"timestamp {text!r} has no UTC offset; give the time zone of the file with --timezone, such as UTC"
        )
    early, late = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
    if early.utcoffset() != late.utcoffset():
        raise InvalidUsage(
            f"timestamp {text!r} occurs twice or never in {zone} because of a clock change; give its UTC offset"
        )
    return early


def _hint(text: str) -> str:
    """The option for a known format. The format is only suggested, never guessed."""
    if text != text.strip():
        return "; it has surrounding spaces, which --strip removes"
    if _DAY.fullmatch(text):
        return "; for dates use --time-format date and --timezone"
    if _COUNT.fullmatch(text):
        likely = _LOOKS_LIKE.get(len(text.lstrip("-").partition(".")[0]), "unix")
        return f"; for a Unix time give its unit, such as --time-format {likely}"
    return "; for another format use --time-format with a pattern such as '%d.%m.%Y %H:%M'"
