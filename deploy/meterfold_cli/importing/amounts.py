"""Reading a quantity: as it is, or times an exact factor, and refused or rounded where it has more than 9 decimals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from meterfold_cli.importing.mapping import Quantity
from meterfold_cli.importing.plan import Tally, cell_text
from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.quantities import SCALE, rounded, scaled, to_unscaled

__all__ = ["ExactFloat", "amount_of", "is_plain"]

_ONE: Final = Decimal(1)


class ExactFloat(float):
    """A number of JSON with a fraction or exponent: a float for metadata, its own digits for a quantity."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> ExactFloat:
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


def is_plain(quantity: Quantity) -> bool:
    """Whether the cell is the quantity."""
    return quantity.scale is None and not quantity.units and quantity.rounding is None


def amount_of(quantity: Quantity, tally: Tally) -> Callable[[Any, Any], Any]:
    """Reads (cell, cell of the unit column) as a quantity. The reader raises InvalidUsage for one that is not exact.

    Every error begins with "quantity". Rounded ones are counted in `tally`.
    """
    rounding, units, constant = quantity.rounding, quantity.units, quantity.scale or _ONE

    def read(cell: Any, unit: Any) -> Decimal:
        value = cell.text if type(cell) is ExactFloat else cell
        factor = _factor(units, quantity.unit_column, unit) if units else constant
        product = scaled(value, factor)
        try:
            to_unscaled(product)
        except InvalidUsage as error:
            if rounding is not None:
                exact, product = product, rounded(product, rounding)
                to_unscaled(product)
                tally.rounded += product != exact
                return product
            times = f" times {factor}" if factor != _ONE else ""
            if "decimals" not in str(error):
                raise InvalidUsage(f"quantity {shown(value)}{times} has more than 20 integer digits") from None
            raise InvalidUsage(
                f"quantity {shown(value)}{times} has more than {SCALE} decimals; round it with --rounding half_even, "
                "or choose a smaller unit with --scale"
            ) from None
        return product

    return read


def _factor(units: Mapping[str, Decimal], column: str | None, unit: Any) -> Decimal:
    text = cell_text(unit)
    try:
        return units[text]
    except KeyError:
        known = ", ".join(map(repr, units))
        raise InvalidUsage(
            f"quantity has the unit {text!r} in column {column!r}, and units has no factor for it; it has {known}"
        ) from None
