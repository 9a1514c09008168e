"""Quantities: exact decimals of scale 9, held as unscaled integers (quantity x 10^9).

`int` (and the integers of numpy), `Decimal` and decimal strings are taken as they are; a float by its shortest repr.
More than 9 decimals or 20 integer digits is an error, never a rounding, unless the caller asks for one with `rounded`.
"""

from __future__ import annotations

import operator
import re
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, Inexact, InvalidOperation
from types import MappingProxyType
from typing import Final, SupportsIndex

from meterfold_schemas.errors import InvalidUsage, shown

__all__ = [
    "DECIMAL_PATTERN",
    "MAX_STORED",
    "MAX_UNSCALED",
    "QUANTITY_PATTERN",
    "ROUNDINGS",
    "SCALE",
    "exact_unscaled",
    "from_avro_bytes",
    "number_text",
    "rounded",
    "scaled",
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
#: The text of either, as JSON Schema matches it: what decimal(38, 9) holds, and what one event may record.
DECIMAL_PATTERN: Final = r"^-?[0-9]{1,29}(\.[0-9]{1,9})?$"
QUANTITY_PATTERN: Final = r"^-?[0-9]{1,20}(\.[0-9]{1,9})?$"

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
#: Names of the roundings that `rounded` knows, and decimal's own.
ROUNDINGS: Final = MappingProxyType({"half_even": ROUND_HALF_EVEN, "half_up": ROUND_HALF_UP})

# Wide enough for every quantity; Inexact is trapped so that a digit which does not fit raises.
_EXACT = Context(prec=60, traps=[InvalidOperation, Inexact])
_PRODUCT = Context(prec=200, traps=[InvalidOperation, Inexact])
# to_decimal must not depend on the caller's decimal context.
_WIDE = Context(prec=60, traps=[InvalidOperation])
_LAST_PLACE = Decimal(1).scaleb(-SCALE)


def to_unscaled(quantity: int | Decimal | str | float | SupportsIndex) -> int:
    """Quantity as an unscaled integer of scale 9. Raises InvalidUsage for anything that would need a rounding."""
    unscaled = quantity * UNIT if type(quantity) is int else _decimal_to_unscaled(_as_decimal(quantity), quantity)
    if -MAX_UNSCALED <= unscaled <= MAX_UNSCALED:
        return unscaled
    raise InvalidUsage(f"quantity {shown(quantity)} has more than 20 integer digits")


def rounded(quantity: int | Decimal | str | float | SupportsIndex, rounding: str) -> Decimal:
    """The quantity with 9 decimals, rounded as one of ROUNDINGS says. Raises InvalidUsage for what is not a number."""
    number = _as_decimal(quantity)
    if not number.is_finite() or number.adjusted() >= 20:
        return number  # to_unscaled says what is wrong
    return number.quantize(_LAST_PLACE, rounding=ROUNDINGS[rounding], context=_WIDE)


def scaled(quantity: int | Decimal | str | float | SupportsIndex, factor: Decimal) -> Decimal:
    """The exact product, however many decimals it has. Raises InvalidUsage for a quantity that is not a finite number,
    and for a product of more than 200 digits."""
    number = _as_decimal(quantity)
    if not number.is_finite():
        raise InvalidUsage(f"quantity {shown(quantity)} is not a finite number")
    try:
        return _PRODUCT.multiply(number, factor)
    except (Inexact, InvalidOperation):
        raise InvalidUsage(f"quantity {shown(quantity)} times {factor} has more than 200 digits") from None


def to_decimal(unscaled: int) -> Decimal:
    """The Decimal of an unscaled integer, always with exponent -9."""
    return Decimal(unscaled).scaleb(-SCALE, _WIDE)


def exact_unscaled(value: Decimal) -> int:
    """The unscaled integer of a stored decimal(38, 9). Raises ValueError for one that does not fit exactly."""
    if not value.is_finite() or (value and value.adjusted() >= 29):
        raise ValueError(f"{shown(value)} does not fit decimal(38, {SCALE})")
    try:
        return int(_EXACT.to_integral_exact(_EXACT.scaleb(value, SCALE)))
    except (Inexact, InvalidOperation):
        raise ValueError(f"{shown(value)} has more than {SCALE} decimals") from None


def number_text(value: Decimal) -> str:
    """All digits of a number, without zeros at the end. Not by normalize(): that rounds to the 28 digits of the decimal
    context, and a stored number may have 38."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


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
            raise InvalidUsage(f"quantity {shown(quantity)} is not a decimal number")
        return Decimal(quantity)
    if isinstance(quantity, float):
        return Decimal(repr(float(quantity)))
    if isinstance(quantity, int) and not isinstance(quantity, bool):
        return Decimal(int(quantity))
    if not isinstance(quantity, bool):
        try:
            return Decimal(operator.index(quantity))  # type: ignore[arg-type]  # numpy's integers, without numpy
        except TypeError:
            pass
    raise InvalidUsage(
        f"quantity {shown(quantity)} is a {type(quantity).__name__}; "
        "give an int, a Decimal, a decimal string or a float"
    )


def _decimal_to_unscaled(number: Decimal, quantity: object) -> int:
    if not number.is_finite():
        raise InvalidUsage(f"quantity {shown(quantity)} is not a finite number")
    if number and number.adjusted() >= 20:  # looked at first: 1e999999 must not become an integer
        raise InvalidUsage(f"quantity {shown(quantity)} has more than 20 integer digits")
    try:
        return int(_EXACT.to_integral_exact(_EXACT.scaleb(number, SCALE)))
    except (Inexact, InvalidOperation):
        raise InvalidUsage(
            f"quantity {shown(quantity)} has more than {SCALE} decimals; round it first, for example round(x, {SCALE})"
        ) from None
