"""Parameters of requests as operations take them. Raises InvalidUsage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_service.tokens.operations import lifetime

__all__ = ["filter_of", "lifetime_of", "subject_of"]


class _OfSubject(Protocol):
    @property
    def subject_type(self) -> str | None: ...
    @property
    def subject_id(self) -> str | None: ...


def subject_of(query: _OfSubject) -> tuple[str, str] | None:
    """Both or none."""
    if query.subject_type is None and query.subject_id is None:
        return None
    if query.subject_type is None or query.subject_id is None:
        raise InvalidUsage("a subject has a type and an id: give subject_type and subject_id, or none of them")
    return query.subject_type, query.subject_id


def filter_of(where: Sequence[str], missing: Sequence[str]) -> dict[str, list[str | None]]:
    """`region=eu` and `model=a`, `model=b`: the values that each metadata field may have."""
    found: dict[str, list[str | None]] = {}
    for text in where:
        field, equals, value = text.partition("=")
        if not (field and equals):
            raise InvalidUsage(f"where {shown(text)} must be field=value, such as region=eu")
        found.setdefault(field, []).append(value)
    for field in missing:
        found.setdefault(field, []).append(None)
    return found


def lifetime_of(text: str | None) -> timedelta | None:
    """90m, 12h, 7d, 4w."""
    if text is None:
        return None
    found = lifetime(text)
    if found is None:
        raise InvalidUsage(f"expires_in {shown(text)} must be a duration such as 90m, 12h, 7d or 4w")
    return found
