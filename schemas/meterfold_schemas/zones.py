"""Time zones by their IANA names."""

from __future__ import annotations

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from meterfold_schemas.errors import InvalidUsage

__all__ = ["zone_of"]


def zone_of(name: str | None) -> tzinfo:
    """The time zone with an IANA name; UTC for None. Raises InvalidUsage."""
    if name is None or name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # KeyError is the base of ZoneInfoNotFoundError
        raise InvalidUsage(f"time zone {name!r} is not known; give an IANA name such as Europe/Berlin") from None
