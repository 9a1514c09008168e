"""Quantities are exact or refused."""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.quantities import (
    MAX_STORED,
    MAX_UNSCALED,
    exact_unscaled,
    from_avro_bytes,
    to_avro_bytes,
    to_decimal,
    to_unscaled,
)

UNSCALED = st.integers(-MAX_UNSCALED, MAX_UNSCALED)


@given(UNSCALED)
def test_every_allowed_quantity_survives_as_decimal_and_as_text(unscaled: int) -> None:
    assert to_unscaled(to_decimal(unscaled)) == unscaled
    assert to_unscaled(str(to_decimal(unscaled))) == unscaled
    assert to_unscaled(f"{to_decimal(unscaled):f}") == unscaled


@given(UNSCALED)
def test_no_decimal_context_of_the_application_changes_a_quantity(unscaled: int) -> None:
    with localcontext(Context(prec=3)):
        number = to_decimal(unscaled)
        assert to_unscaled(number) == unscaled


@given(st.floats(-1e15, 1e15))
def test_a_float_counts_by_its_shortest_repr(number: float) -> None:
    exact = Decimal(repr(number))
    if exact == exact.quantize(Decimal("1e-9"), context=Context(prec=60)):
        assert to_decimal(to_unscaled(number)) == exact
    else:
        with pytest.raises(InvalidUsage, match="more than 9 decimals"):
            to_unscaled(number)


def test_tenth_as_a_float_is_a_tenth() -> None:
    assert to_unscaled(0.1) == 100_000_000
    assert to_unscaled(-2.5) == -2_500_000_000


@pytest.mark.parametrize(
    ("quantity", "reason"),
    [
        (10**20, "20 integer digits"),
        (-(10**20), "20 integer digits"),
        ("100000000000000000000", "20 integer digits"),
        (Decimal("1e999999"), "20 integer digits"),
        (1e22, "20 integer digits"),
        (Decimal("0.0000000001"), "more than 9 decimals"),
        ("99999999999999999999.9999999995", "more than 9 decimals"),
        (Decimal("1." + "0" * 70 + "1"), "more than 9 decimals"),
        ("1e-10", "more than 9 decimals"),
        (float("nan"), "finite"),
        (float("-inf"), "finite"),
        (Decimal("NaN"), "finite"),
        (Decimal("sNaN"), "finite"),
        ("NaN", "not a decimal number"),
        ("1_000", "not a decimal number"),
        (" 1", "not a decimal number"),
        ("", "not a decimal number"),
        ("\u0661", "not a decimal number"),
        (True, "bool"),
        (None, "NoneType"),
        (b"1", "bytes"),
        (1j, "complex"),
    ],
)
def test_what_needs_a_rounding_or_is_no_number_is_refused(quantity: object, reason: str) -> None:
    with pytest.raises(InvalidUsage, match=reason) as caught:
        to_unscaled(quantity)  # type: ignore[arg-type]
    assert caught.value.code == "INVALID_USAGE"


@pytest.mark.parametrize("text", ["1.0000000000000", "1e0", "+1", "1.", "10e-1"])
def test_zeros_and_notation_are_no_rounding(text: str) -> None:
    assert to_unscaled(text) == 1_000_000_000


@given(st.integers(-MAX_STORED, MAX_STORED))
def test_avro_bytes_are_the_shortest_twos_complement(unscaled: int) -> None:
    raw = to_avro_bytes(unscaled)
    assert from_avro_bytes(raw) == unscaled
    assert len(raw) == 1 or not -(1 << 8 * (len(raw) - 1) - 1) <= unscaled < 1 << 8 * (len(raw) - 1) - 1


@given(st.integers(-MAX_STORED, MAX_STORED))
def test_stored_decimals_reach_38_digits(unscaled: int) -> None:
    assert exact_unscaled(to_decimal(unscaled)) == unscaled


@pytest.mark.parametrize("value", [to_decimal(MAX_STORED + 1), Decimal("1e-10"), Decimal("inf")])
def test_stored_decimals_end_there(value: Decimal) -> None:
    with pytest.raises(ValueError):
        exact_unscaled(value)
