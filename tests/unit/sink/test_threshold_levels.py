"""The percentage of a threshold that a window shows."""

from __future__ import annotations

from decimal import Decimal

import pytest

from meterfold_schemas.quantities import MAX_STORED, to_decimal
from meterfold_sink.threshold_levels import _percentage


@pytest.mark.parametrize(
    ("value", "threshold", "expected"),
    [
        ("8", "10", "80.00"),
        ("1", "3", "33.33"),
        ("-1", "8", "-12.50"),
        ("0", "8", "0.00"),
        # More digits than the decimal context keeps: a quantize in it raises InvalidOperation.
        ("12345678901234567890123456789.123456789", "100", "12345678901234567890123456789.12"),
        (to_decimal(MAX_STORED), to_decimal(1), "100000000000000000000000000000.00"),
    ],
)
def test_percentages_have_two_decimals(value: str, threshold: str, expected: str) -> None:
    assert str(_percentage(Decimal(value), Decimal(threshold))) == expected
