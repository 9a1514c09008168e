"""The two backlogs that are measured: 1,000,000 events, 1 % of them duplicates, over 40,000 keys.

dense   the times of all events lie within one hour: many events per window
sparse  they lie anywhere within three days: nearly every event opens a window of its own
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from confluent_kafka import Producer

from meterfold_schemas.keys import partition_of
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_schemas.usage_encoder import UsageEncoder

EVENTS = 1_000_000
KEYS = 40_000
DUPLICATES = 0.01
HOUR = 3_600_000_000
SPANS = {"dense": HOUR, "sparse": 3 * 24 * HOUR}
METRICS = ("api.calls", "storage.gb", "tokens", "seats")

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Backlog:
    """`key`, `identity`, `quantity` (whole units) and `time` (UTC microseconds) of each message, in order; the first
    message of an identity counts."""

    name: str
    key: Int64s
    identity: Int64s
    quantity: Int64s
    time: Int64s

    def counted(self) -> pl.DataFrame:
        """The events that count: key, quantity, time."""
        frame = pl.DataFrame({"key": self.key, "identity": self.identity, "quantity": self.quantity, "time": self.time})
        return frame.unique("identity", keep="first", maintain_order=True).drop("identity")


def subject(key: int) -> tuple[str, str, str, str]:
    return f"org-{key % 50:02d}", METRICS[key % 4], "user", f"u-{key // 4:05d}"


def make(name: str, now: int, seed: int, events: int = EVENTS) -> Backlog:
    """`now` in UTC microseconds: the newest time of the backlog lies just before it."""
    random = np.random.default_rng(seed)
    key = random.integers(0, KEYS, events)
    quantity = random.integers(1, 1000, events)
    time = now - random.integers(1, SPANS[name], events)
    identity = np.arange(events)
    repeats = np.flatnonzero(random.random(events) < DUPLICATES)
    repeats = repeats[repeats > 0]
    originals = random.integers(0, repeats)
    for column in (key, quantity, time, identity):
        column[repeats] = column[originals]
    return Backlog(name, key, identity, quantity, time)


def send(
    backlog: Backlog,
    settings: KafkaSettings,
    partition_count: int,
    *,
    json: bool = False,
    event_id: Callable[[int], str] = "0192f3a0-1111-7222-8333-{:012d}".format,
) -> None:
    """Write the backlog to `usage.recorded` as Avro or JSON, every message acknowledged. `event_id` makes the id of an
    identity; the default is cheap to make, and compresses better than real ids."""
    encoder = UsageEncoder()
    topic = Topics(settings.topic_prefix).usage_recorded
    subjects = [encoder.subject(*subject(key)) for key in range(KEYS)]
    objects = [_json_fields(*subject(key)) for key in range(KEYS)] if json else []
    partitions = [partition_of(encoded.key, partition_count) for encoded in subjects]
    failed: list[object] = []
    producer = Producer(
        settings.client(
            **{
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 20,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 500_000,
                "delivery.report.only.error": True,
            }
        )
    )
    times = np.datetime_as_string(backlog.time.astype("datetime64[us]")) if json else backlog.time
    rows = zip(backlog.key.tolist(), backlog.identity.tolist(), backlog.quantity.tolist(), times.tolist(), strict=True)
    for key, identity, quantity, time in rows:
        if json:
            value = (
                f'{{"id":"{event_id(identity)}",{objects[key]},"quantity":{quantity},"timestamp":"{time}Z"}}'.encode()
            )
        else:
            value = encoder.value(event_id(identity), subjects[key], quantity, time)
        while True:
            try:
                producer.produce(
                    topic,
                    value,
                    subjects[key].key,
                    partitions[key],
                    on_delivery=lambda error, _: failed.append(error),
                )
                break
            except BufferError:
                producer.poll(0.05)
    left = producer.flush(60)
    if failed or left:
        raise SystemExit(f"the backlog was not written: {len(failed)} failed, {left} unconfirmed")


def _json_fields(org_id: str, metric_key: str, subject_type: str, subject_id: str) -> str:
    return (
        f'"org_id":"{org_id}","metric_key":"{metric_key}","subject_type":"{subject_type}","subject_id":"{subject_id}"'
    )


def expected_windows(backlog: Backlog) -> pl.DataFrame:
    """What `usage_windows` must hold, by polars' own group by: key, period_type, period_start, count, sum, min, max."""
    events = backlog.counted().with_columns(time=pl.col("time").cast(pl.Datetime("us", "UTC")))
    starts = {
        "hourly": pl.col("time").dt.truncate("1h"),
        "daily": pl.col("time").dt.truncate("1d"),
        "monthly": pl.col("time").dt.truncate("1mo"),
        "lifetime": pl.lit(0, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
    }
    quantity = pl.col("quantity")
    return pl.concat(
        events.group_by("key", start.alias("period_start"))
        .agg(count=pl.len().cast(pl.Int64), sum=quantity.sum(), min=quantity.min(), max=quantity.max())
        .with_columns(period_type=pl.lit(period))
        for period, start in starts.items()
    ).select("key", "period_type", "period_start", "count", "sum", "min", "max")
