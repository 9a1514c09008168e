"""SQL that makes the total of an aggregation type from the state of usage; totals.total_of does the same in Python."""

from __future__ import annotations

from meterfold_schemas.vocabulary import AggregationType

__all__ = ["average", "total"]


def total(kind: str, *, count: str, sum_: str, unscaled_avg: str, highest: str, lowest: str, latest: str) -> str:
    """An expression of Nullable(Decimal(76, 9)). `kind` is a column with the name of the type, "" without a definition:
    NULL. The others are expressions of the state; `unscaled_avg` is that of `average`."""
    values = {
        AggregationType.COUNT: f"toDecimal256({count}, 9)",
        AggregationType.SUM: f"toDecimal256({sum_}, 9)",
        AggregationType.AVG: f"toDecimal256({unscaled_avg}, 9) / 1000000000",
        AggregationType.MAX: f"toDecimal256({highest}, 9)",
        AggregationType.MIN: f"toDecimal256({lowest}, 9)",
        AggregationType.LAST: f"toDecimal256({latest}, 9)",
    }
    cases = ", ".join(f"{kind} = '{name}', toNullable({values[name]})" for name in AggregationType)
    return f"multiIf({cases}, NULL)"


def average(sum_: str, count: str) -> str:
    """The average in units of 10^-9, rounded half away from zero. `sum_` is a Decimal256(9); 0 where `count` is 0."""
    unscaled, n = f"toInt256({sum_} * 1000000000)", f"toInt256(greatest({count}, 1))"
    return f"sign({unscaled}) * intDiv(2 * abs({unscaled}) + {n}, 2 * {n})"
