"""Quantities: exact decimals of scale 9, held as unscaled integers (quantity x 10^9).

`int`, `Decimal` and decimal strings are taken as they are; a float by its shortest repr. More than 9 decimals or
20 integer digits is an error, never a rounding.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final

from meterfold_schemas.errors import InvalidUsage

__all__ = [
    "MAX_STORED",
    "MAX_UNSCALED",
    "SCALE",
    "exact_unscaled",
    "from_avro_bytes",
    "to_avro_bytes",
    "to_decimal",
    "to_unscaled",
]

SCALE: Final = 9
UNIT: Final = 10**SCALE

#: The largest unscaled quantity of one event: 20 integer digits and 9 decimals.
MAX_UNSCALED: Final = 10**29 - 1
#: The largest unscaled value of decimal(38, 9): what a window's sum may hold.
MAX_STORED: Final = 10**38 - 1

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
# Wide enough for every quantity; Inexact is trapped so that a digit which does not fit raises.
_EXACT = Context(prec=60, traps=[InvalidOperation, Inexact])
# to_decimal must not depend on the caller's decimal context.
_WIDE = Context(prec=60, traps=[InvalidOperation])


def to_unscaled(quantity: int | Decimal | str | float) -> int:
    """Quantity as an unscaled integer of scale 9. Raises InvalidUsage for anything that would need a rounding."""
    unscaled = quantity * UNIT if type(quantity) is int else _decimal_to_unscaled(_as_decimal(quantity), quantity)
    if -MAX_UNSCALED <= unscaled <= MAX_UNSCALED:
        return unscaled
    raise InvalidUsage(f"quantity {_shown(quantity)} has more than 20 integer digits")


def to_decimal(unscaled: int) -> Decimal:
    """The Decimal of an unscaled integer, always with exponent -9."""
    return Decimal(unscaled).scaleb(-SCALE, _WIDE)


def exact_unscaled(value: Decimal) -> int:
    """The unscaled integer of a stored decimal(38, 9). Raises ValueError for one that does not fit exactly."""
    if not value.is_finite() or (value and value.adjusted() >= 29):
        raise ValueError(f"{_shown(value)} does not fit decimal(38, {SCALE})")
    try:
        return int(_EXACT.to_integral_exact(_EXACT.scaleb(value, SCALE)))
    except (Inexact, InvalidOperation):
        raise ValueError(f"{_shown(value)} has more than {SCALE} decimals") from None


def to_avro_bytes(unscaled: int) -> bytes:
    """Big-endian two's complement in as few bytes as hold it: Avro's bytes of a decimal."""
    magnitude = unscaled if unscaled >= 0 else ~unscaled
    return unscaled.to_bytes((magnitude.bit_length() + 8) >> 3, "big", signed=True)


def from_avro_bytes(value: bytes) -> int:
    """The unscaled integer of an Avro decimal's bytes; empty bytes are 0, as Avro readers take them."""
    return int.from_bytes(value, "big", signed=True)


def _as_decimal(quantity: object) -> Decimal:
    if isinstance(quantity, Decimal):
        return quantity
    if isinstance(quantity, str):
        if _NUMBER.fullmatch(quantity) is None:
            raise InvalidUsage(f"quantity {_shown(quantity)} is not a decimal number")
        return Decimal(quantity)
    if isinstance(quantity, float):
        return Decimal(repr(float(quantity)))
    if isinstance(quantity, int) and not isinstance(quantity, bool):
        return Decimal(int(quantity))
    raise InvalidUsage(
        f"quantity {_shown(quantity)} is a {type(quantity).__name__}; "
        "give an int, a Decimal, a decimal string or a float"
    )


def _decimal_to_unscaled(number: Decimal, quantity: object) -> int:
    if not number.is_finite():
        raise InvalidUsage(f"quantity {_shown(quantity)} is not a finite number")
    if number and number.adjusted() >= 20:  # looked at first: 1e999999 must not become an integer
        raise InvalidUsage(f"quantity {_shown(quantity)} has more than 20 integer digits")
    try:
        return int(_EXACT.to_integral_exact(_EXACT.scaleb(number, SCALE)))
    except (Inexact, InvalidOperation):
        raise InvalidUsage(f"quantity {_shown(quantity)} has more than {SCALE} decimals; round it yourself") from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
