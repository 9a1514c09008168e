"""How far the flights are moved in time: computed once, and kept with the data folder.

The same flight then has the same time and the same id in every run on that folder, so it counts once.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from meterfold_cli.demo.flights import WEEK, weeks_to_shift
from meterfold_local.errors import StackError
from meterfold_local.private_files import write_private

HORIZON_DAYS = 400
RECORD_RETENTION_DAYS = 500


def kept_shift(folder: Path, flights: pl.DataFrame, now: datetime) -> int:
    """The whole weeks of this folder. StackError when the first flight has meanwhile become too old to be counted."""
    path = folder / "demo.json"
    if path.exists():
        weeks = int(json.loads(path.read_text(encoding="utf-8"))["weeks"])
    else:
        weeks = weeks_to_shift(flights, now)
        write_private(path, json.dumps({"weeks": weeks}) + "\n")
    first: datetime = flights["time"].min()  # type: ignore[assignment]
    age = now - first - weeks * WEEK
    if age > timedelta(days=HORIZON_DAYS - 1):
        raise StackError(
            f"{folder}: this folder moves the flights by {weeks} weeks. The first flight is now {age.days} days old, "
            f"and the horizon is {HORIZON_DAYS} days. Remove the folder and start again"
        )
    return weeks
