"""The application's part: every flight through the SDK."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl

from meterfold import Meter
from meterfold_local.errors import StackError

SLICE = 20_000
ORG = "nyc"


def send(events: pl.DataFrame, config: Path, stop: threading.Event) -> int:
    """Record all events (columns of flights.events) and wait for the broker's word on each; returns how many.

    Setting `stop` ends it early. StackError when an event was refused; UndeliveredEvents when one was not confirmed.
    """
    fixed = [pl.lit("airline").alias("subject_type"), pl.lit(ORG).alias("org_id"), pl.lit("demo").alias("source")]
    with Meter(config=config, buffer_timeout=60.0) as meter:
        for part in events.with_columns(fixed).iter_slices(SLICE):
            if stop.is_set():
                break
            results = meter.record_batch(part)
            if results.refused:
                first = next(iter(results.refused.values()))
                raise StackError(f"the SDK refused {len(results.refused)} events; the first: {first.error}")
        meter.flush()
        return meter.counts.delivered
