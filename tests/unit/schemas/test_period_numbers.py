"""The numbers under which periods are stored: released ones never change, whatever is added where."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.resources import files

from meterfold_schemas.periods import KEPT, STORED_NUMBER

_WITH_WEEKS_IN_THE_MIDDLE = """
from meterfold_schemas import periods
from meterfold_schemas.periods import Period

numbers = {Period.HOURLY: 1, Period.DAILY: 2, Period.WEEKLY: 5, Period.MONTHLY: 3, Period.LIFETIME: 4}
periods.STORED_NUMBER, periods.KEPT = numbers, tuple(numbers)

import pyarrow as pa
from meterfold_processor.checker import rows, rules

assert dict(rules.CODES) == numbers
assert {period: code for code, period in rules.PERIODS.items()} == numbers
names = [str(period) for period in numbers]
columns = {
    field.name: pa.array(names if field.name == "period_type" else [None] * len(names), type=None)
    for field in rows._SHAPE
}
columns = {name: column if name == "period_type" else column.cast(rows._SHAPE.field(name).type)
           for name, column in columns.items()}
assert rows._in_shape(pa.table(columns)).column("period_type").to_pylist() == list(numbers.values())
"""


def test_numbers_are_the_ones_that_clickhouse_stores() -> None:
    migration = (files("meterfold_sink") / "migrations" / "0001_usage.sql").read_text(encoding="utf-8")
    enum = re.search(r"period_type\s+Enum8\((.*?)\)", migration)
    assert enum is not None
    stored = {name: int(number) for name, number in re.findall(r"'(\w+)' = (\d+)", enum[1])}
    assert stored == {str(period): number for period, number in STORED_NUMBER.items()}
    assert tuple(STORED_NUMBER) == KEPT


def test_a_period_added_in_the_middle_leaves_the_others_their_numbers() -> None:
    subprocess.run([sys.executable, "-c", _WITH_WEEKS_IN_THE_MIDDLE], check=True, timeout=300)
