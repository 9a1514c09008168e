"""record_batch of a frame beside the same rows one by one, and beside librdkafka's own produce: CPU of the caller."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from confluent_kafka import Producer

from meterfold.recorder import Recorder
from meterfold.subjects import Resolvers

SLICE_ROWS = 32_768


def frame(rows: int, seed: int) -> pl.DataFrame:
    """Ids and timestamps of their own, 10,000 subjects, a source and flat metadata."""
    chance = np.random.default_rng(seed)
    base = datetime.now(UTC) - timedelta(days=1)
    return pl.DataFrame(
        {
            "metric_key": chance.choice(["api.calls", "gpu.seconds", "tokens.in"], rows),
            "subject_type": ["user"] * rows,
            "subject_id": [f"user-{number}" for number in chance.integers(0, 10_000, rows)],
            "id": [f"{number:016x}-{row}" for row, number in enumerate(chance.integers(0, 2**62, rows).tolist())],
            "quantity": chance.integers(1, 100_000, rows),
            "source": ["gateway-eu"] * rows,
            "timestamp": [
                base + timedelta(microseconds=int(micros)) for micros in chance.integers(0, 8 * 10**10, rows)
            ],
            "metadata": [f'{{"model":"m{row % 10}","region":"eu"}}' for row in range(rows)],
        }
    )


def measure(rows: int, seed: int, runs: int = 3) -> dict[str, float]:
    """What is done -> CPU microseconds per event of the calling thread, the best of some runs."""
    made = frame(rows, seed)
    recorder = Recorder("bench", Resolvers())
    batch = recorder.frame(made)
    assert batch is not None
    keys, values = list[bytes](), list[bytes]()
    for run in batch.runs(SLICE_ROWS):
        keys += run.keys
        values += run.values
    assert len(keys) == rows, "every event of the frame is valid"
    assert list(zip(keys[:1000], values[:1000], strict=True)) == [
        event[1:] for event in recorder.batch(made.head(1000))
    ], "by column and by row are the same"

    def by_column() -> None:
        encoded = recorder.frame(made)
        assert encoded is not None
        for _ in encoded.runs(SLICE_ROWS):
            pass

    def by_row() -> None:
        for _ in recorder.batch(made):
            pass

    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "queue.buffering.max.messages": 2 * rows, "log_level": 0})

    def produce() -> None:
        send = producer.produce
        for key, value in zip(keys, values, strict=True):
            send("bench", value, key, -1, _ignore)

    found = {
        "encode a frame by column": _best(by_column, rows, runs),
        "encode the same rows one by one": _best(by_row, rows, runs),
        "librdkafka's produce": _best(produce, rows, 1),
    }
    producer.purge()
    producer.flush(5)
    return found


def _ignore(_error: object, _message: object) -> None:
    pass


def _best(work: Callable[[], None], rows: int, runs: int) -> float:
    found = []
    for _ in range(runs):
        begun = time.thread_time()
        work()
        found.append((time.thread_time() - begun) / rows * 1e6)
    return min(found)
