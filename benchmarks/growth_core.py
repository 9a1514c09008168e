"""The fold's core without servers: CPU per event and bytes per subject, as the number of subjects grows.

    python benchmarks/growth_core.py [--subjects 40000 400000 4000000] [--batches 20] [--partitions 4]

The subjects of a partition come one after the other in a shuffled order, so that every event of a batch belongs to
another subject and touches four windows: the number of windows touched per event does not depend on how many there are.
First every subject comes once, which opens its windows; then the measured batches find them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl
import psutil

from meterfold_processor.columns.limbs import Limbs, from_int64
from meterfold_processor.fold.grouping import Events
from meterfold_processor.fold.ledger import Ledger
from meterfold_processor.fold.subjects import Subjects, subject_keys
from meterfold_schemas.periods import HOUR

METRICS = ("api.calls", "storage.gb", "tokens", "seats")
HOURS = 490_000
BATCH = 10_000


class NothingStored:
    """A history that is never asked: the partitions are new."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} was called")


def names(numbers: npt.NDArray[np.int64]) -> pl.DataFrame:
    """The subjects with these numbers: key and four columns."""
    frame = pl.DataFrame({"n": numbers}).select(
        org_id=pl.format("org-{}", (pl.col("n") % 50).cast(pl.String).str.zfill(2)),
        metric_key=pl.col("n").mod(4).replace_strict(range(4), METRICS, return_dtype=pl.String),
        subject_type=pl.lit("user"),
        subject_id=pl.format("u-{}", (pl.col("n") // 4).cast(pl.String).str.zfill(7)),
    )
    return frame.select(subject_keys(frame).alias("key"), pl.all())


class Partition:
    """One partition's subjects and windows, and where its log is."""

    def __init__(self, number: int, seed: int, count: int) -> None:
        self.order = np.random.default_rng(seed).permutation(count) * 64 + number
        self.subjects = Subjects(0, 1)
        self.ledger = Ledger(0, self.subjects, NothingStored(), complete=True)  # type: ignore[arg-type]
        self.offset = 0

    def batches(self, size: int) -> Iterator[pl.DataFrame]:
        """Batches of `size` events for ever, in the order of the subjects."""
        while True:
            for begin in range(0, len(self.order) - size + 1, size):
                yield names(self.order[begin : begin + size])

    def fold(self, batch: pl.DataFrame) -> None:
        size = batch.height
        placed = self.subjects.place(batch)
        offsets = np.arange(self.offset, self.offset + size)
        time_ = np.full(size, HOURS * HOUR) + offsets % 1_000_000
        self.ledger.enter(Events(placed.subject, time_, offsets, _quantity(size)), placed, self.offset)
        self.offset += size
        self.ledger.evict(self.offset, HOURS * HOUR + 60_000_000, 10**9)


def _quantity(size: int) -> Limbs:
    return from_int64(np.arange(size) % 1000 * 1_000_000_000)


def measure(subjects: int, partitions: int, batches: int, batch: int) -> dict[str, float]:
    """CPU microseconds per event of the measured batches, bytes per subject, and what opening cost per event."""
    process = psutil.Process()
    base = process.memory_info().rss
    held = [Partition(number, 7, subjects // partitions) for number in range(partitions)]
    logs = [part.batches(min(batch, subjects // partitions)) for part in held]
    opening = worst = 0.0
    for part, log in zip(held, logs, strict=True):
        for _ in range(-(-len(part.order) // batch)):
            made = next(log)
            begun = time.process_time()
            part.fold(made)
            took = time.process_time() - begun
            opening, worst = opening + took, max(worst, took / made.height)
    grown = process.memory_info().rss - base
    spent = events = 0.0
    costs = []
    for _ in range(batches):
        for part, log in zip(held, logs, strict=True):
            made = next(log)
            begun = time.process_time()
            part.fold(made)
            took = time.process_time() - begun
            costs.append(took / made.height * 1e6)
            spent += took
            events += made.height
    present = sum(len(part.subjects) for part in held)
    own = sum(part.subjects.nbytes + part.ledger.nbytes for part in held)
    return {
        "us/event": float(np.median(costs)),
        "us/event mean": spent / events * 1e6,
        "opening us/event": opening / present * 1e6,
        "worst opening us": worst * 1e6,
        "subjects": present,
        "bytes/subject": own / present,
        "RSS/subject": grown / present,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[40_000, 400_000, 4_000_000])
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--batch", type=int, default=BATCH, help="events of one partition in a batch")
    parser.add_argument("--partitions", type=int, default=4)
    arguments = parser.parse_args()
    for subjects in arguments.subjects:
        found = measure(subjects, arguments.partitions, arguments.batches, arguments.batch)
        print(subjects, {name: round(value, 2) for name, value in found.items()}, flush=True)


if __name__ == "__main__":
    main()
