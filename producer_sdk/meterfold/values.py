"""Values that people have: ids as UUIDs and integers, taken as their text."""

from __future__ import annotations

import operator
from decimal import Decimal
from typing import Any, SupportsIndex
from uuid import UUID

from meterfold_schemas.errors import InvalidUsage

__all__ = ["Id", "Quantity", "id_text", "shown"]

#: An id: text, or a UUID or integer, which count as their text ("42" and 42 are the same id).
Id = str | UUID | SupportsIndex
#: A quantity: an integer (numpy's, too), a Decimal, a decimal string, or a float of at most 9 decimals.
Quantity = int | Decimal | str | float | SupportsIndex


def id_text(field: str, value: Any) -> str:
    """The text of an id. Raises InvalidUsage for a bool, a float, and any other type without one obvious text."""
    if isinstance(value, str):
        return value
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, bool):
        try:
            return str(operator.index(value))
        except TypeError:
            pass
    hint = ""
    if isinstance(value, float):
        hint = "; convert it first (pandas turns an integer column with missing values into floats: use Int64)"
    raise InvalidUsage(f"{field} must be text, a UUID or an integer, not {type(value).__name__} {shown(value)}{hint}")


def shown(value: object) -> str:
    """The repr of a value for a message, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
