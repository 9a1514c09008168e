"""Seconds as people write and read them: 3600, 90m, 12h, 35d, 2w. Pure."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from meterfold_schemas.plurals import plural

__all__ = ["duration_seconds", "duration_text"]

_DURATION: Final = re.compile(r"(\d{1,10})(s|m|h|d|w)?", re.ASCII)
_UNITS: Final = MappingProxyType({"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1})
_NAMES: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def duration_seconds(text: str) -> int | None:
    """None where it is not a duration."""
    found = _DURATION.fullmatch(text)
    return None if found is None else int(found[1]) * _UNITS[found[2] or "s"]


def duration_text(seconds: int) -> str:
    """All of it, in its largest units: 35 days, 1 hour 30 minutes."""
    parts = []
    for name, size in _NAMES:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(plural(count, name))
    return " ".join(parts) or "0 seconds"
