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

import numpy as np
import pyarrow as pa

# The checker: its rules, and the names that ClickHouse gives back, turned into numbers.
from meterfold_processor.checker import rows, rules
from meterfold_processor.checker.settings import CheckerSettings

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
assert CheckerSettings(aggregated_periods="weekly,daily").aggregated_periods == (Period.WEEKLY, Period.DAILY)

# The fold: two events a week apart in one month, and a third one in the next year, give windows of every period.
from meterfold_processor.columns.limbs import from_ints
from meterfold_processor.fold.grouping import Events
from meterfold_processor.fold.ledger import Ledger
from meterfold_processor.fold.subjects import Subjects
from meterfold_schemas.keys import subject_key
import polars as pl

times = [1_767_700_000_000_000, 1_768_300_000_000_000, 1_800_000_000_000_000]
subjects = Subjects(0, 1)
key = subject_key("o", "m", "t", "s")
batch = pl.DataFrame({"key": [key], "org_id": ["o"], "metric_key": ["m"], "subject_type": ["t"], "subject_id": ["s"]})
placed = subjects.place(batch)
ledger = Ledger(0, subjects, None, complete=True)
slots, offsets = np.repeat(placed.subject, 3), np.arange(3)
touched = ledger.enter(Events(slots, np.array(times), offsets, from_ints([1, 10, 100])), placed, 0)
stored = {(row["period_type"], periods.micros(row["period_start"])): int(row["sum"].scaleb(9))
          for row in touched.to_pylist()}
expected = {}
for period, number in numbers.items():
    for time, quantity in zip(times, (1, 10, 100)):
        name = number, periods.period_start(period, time)
        expected[name] = expected.get(name, 0) + quantity
assert stored == expected, (stored, expected)
assert len([name for name in stored if name[0] == 5]) == 3
ledger.evict(3, 2_000_000_000_000_000, 99)
ledger.evict(4, 2_000_000_000_000_000 + 2 * periods.HOUR, 99)
assert len(ledger) == 1, "only the lifetime is left"

# The queries: the end of a window by its own period.
from meterfold_sink.reads import END_OF_WINDOW
assert "period_type = 'weekly', period_start + INTERVAL 7 DAY" in END_OF_WINDOW
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
