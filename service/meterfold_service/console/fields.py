"""What people type into forms and addresses, as values of the operations. Each raises InvalidUsage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Final

from meterfold_schemas.errors import InvalidUsage, shown

__all__ = [
    "conditions",
    "conditions_text",
    "decimal",
    "moment",
    "number",
    "org_of",
    "shown_moment",
    "subject_of",
    "text",
]

_NO_ORG: Final = '""'


def text(values: Mapping[str, str], name: str) -> str | None:
    """None where nothing was typed."""
    found = values.get(name, "").strip()
    return found or None


def number(values: Mapping[str, str], name: str, default: int) -> int:
    found = text(values, name)
    if found is None:
        return default
    try:
        return int(found)
    except ValueError:
        raise InvalidUsage(f"{name} must be a whole number, not {shown(found)}") from None


def decimal(values: Mapping[str, str], name: str) -> Decimal | None:
    found = text(values, name)
    if found is None:
        return None
    try:
        return Decimal(found.replace(",", "").replace(" ", ""))
    except InvalidOperation:
        raise InvalidUsage(f"{name} must be a number, not {shown(found)}") from None


def moment(values: Mapping[str, str], name: str, zone: tzinfo) -> datetime | None:
    """A day or a time: in the zone, unless it has an offset."""
    found = text(values, name)
    if found is None:
        return None
    try:
        parsed = datetime.fromisoformat(found)
    except ValueError:
        raise InvalidUsage(
            f"{name} must be a day or a time, such as 2026-10-01 or 2026-10-01T14:00, not {shown(found)}"
        ) from None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=zone)


def shown_moment(value: datetime | None, zone: tzinfo, *, with_time: bool) -> str:
    """As `moment` reads it, and as a field for days or times shows it."""
    if value is None:
        return ""
    local = value.astimezone(zone)
    return f"{local:%Y-%m-%dT%H:%M}" if with_time else f"{local:%Y-%m-%d}"


def conditions(values: Mapping[str, str], name: str) -> dict[str, list[str | None]]:
    """`region=eu, model=a, model=b`: the values that each metadata field may have; a name alone is usage without the
    field."""
    found: dict[str, list[str | None]] = {}
    for part in values.get(name, "").split(","):
        field, equals, value = (one.strip() for one in part.partition("="))
        if not field and (equals or value):
            raise InvalidUsage(f"the filter {shown(part.strip())} must name a metadata field, such as region=eu")
        if field:
            found.setdefault(field, []).append(value if equals else None)
    return found


def conditions_text(where: Mapping[str, Sequence[str | None]]) -> str:
    """As `conditions` reads it."""
    return ", ".join(name if one is None else f"{name}={one}" for name, some in where.items() for one in some)


def org_of(values: Mapping[str, str], name: str = "org") -> str | None:
    """None: every organization; two quotes are subjects without one."""
    found = text(values, name)
    return "" if found == _NO_ORG else found


def subject_of(values: Mapping[str, str]) -> tuple[str, str] | None:
    """The fields `subject_type` and `subject_id`, both or none of them."""
    kind, found = text(values, "subject_type"), text(values, "subject_id")
    if kind is None and found is None:
        return None
    if kind is None or found is None:
        raise InvalidUsage("a subject needs its type and its id, such as user and ada")
    return kind, found
