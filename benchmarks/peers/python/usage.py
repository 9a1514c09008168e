"""What the peers in Python share: decoding of an event, starts of its windows, and the insert into ClickHouse.

The message key names the subject, so only id, quantity and time are taken from the value.
"""

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import clickhouse_connect
import numpy as np
import pyarrow as pa

HOURLY, DAILY, MONTHLY, LIFETIME = 1, 2, 3, 4
HOUR, DAY = 3_600_000_000, 86_400_000_000
NANO = 10**9
HEADER_SIZE = 10
COLUMNS = (
    "org_id", "metric_key", "subject_type", "subject_id", "period_type", "period_start", "record_count", "sum", "min",
    "max",
)  # fmt: skip

Decoder = Callable[[bytes], tuple[str, int, int]]
"""Of a value: the id, the quantity in units of 10^-9, and the hour that it happened in, in UTC microseconds."""

_hours: dict[str, int] = {}
_months: dict[int, int] = {}
_subjects: dict[str | bytes, list[str]] = {}
_DECIMAL = pa.decimal128(38, 9)


def kafka() -> dict[str, str]:
    """Address and login of every Kafka client."""
    return {
        "bootstrap.servers": os.environ["PEER_BOOTSTRAP"],
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": os.environ["PEER_USERNAME"],
        "sasl.password": os.environ["PEER_PASSWORD"],
    }


def decoder() -> Decoder:
    """For the format of the topic."""
    return from_json() if os.environ["PEER_FORMAT"] == "json" else from_avro()


def from_json() -> Decoder:
    import orjson

    def decode(value: bytes) -> tuple[str, int, int]:
        event = orjson.loads(value)
        quantity = event["quantity"]
        quantity = quantity * NANO if type(quantity) is int else round(float(quantity) * NANO)
        hour = event["timestamp"][:13]
        if hour not in _hours:
            _hours[hour] = int(np.datetime64(hour, "us").astype(np.int64))
        return event["id"], quantity, _hours[hour]

    return decode


def from_avro() -> Decoder:
    """By fastavro, with the schema that has no logical types: twice as fast as with them."""
    import fastavro

    schema = fastavro.parse_schema(json.loads(Path(os.environ["PEER_SCHEMA"]).read_text(encoding="utf-8")))

    def decode(value: bytes) -> tuple[str, int, int]:
        event = fastavro.schemaless_reader(io.BytesIO(value[HEADER_SIZE:]), schema)
        stamp = event["timestamp"]
        return event["id"], int.from_bytes(event["quantity"], "big", signed=True), stamp - stamp % HOUR

    return decode


def starts(hour: int) -> tuple[tuple[int, int], ...]:
    """(period, start in UTC microseconds) of the four windows of an event."""
    day = hour - hour % DAY
    month = _months.get(day)
    if month is None:
        first = np.datetime64(day, "us").astype("datetime64[M]").astype("datetime64[us]")
        month = _months[day] = int(first.astype(np.int64))
    return (HOURLY, hour), (DAILY, day), (MONTHLY, month), (LIFETIME, 0)


class Target:
    """The table of the windows."""

    def __init__(self) -> None:
        self._client = clickhouse_connect.get_client(
            dsn=os.environ["PEER_CLICKHOUSE_URL"],
            username=os.environ["PEER_CLICKHOUSE_USER"],
            password=os.environ["PEER_CLICKHOUSE_PASSWORD"],
            database=os.environ["PEER_CLICKHOUSE_DATABASE"],
        )

    def insert(self, windows: Mapping[tuple[str | bytes, int, int], Sequence[int]]) -> None:
        """States (count, sum, min, max) by message key, period and start. Repeating it is harmless: the table keeps
        the row with the highest count."""
        if not windows:
            return
        keys, periods, begins = zip(*windows, strict=True)
        for key in keys:
            if key not in _subjects:
                _subjects[key] = json.loads(key)
        columns = [pa.array(column) for column in zip(*(_subjects[key] for key in keys), strict=True)]
        states = np.array(list(windows.values()), np.int64)
        columns += [pa.array(periods, pa.int8()), pa.array(np.array(begins) // 10**6, pa.uint32())]
        columns += [pa.array(states[:, 0]), *(decimals(states[:, column]) for column in (1, 2, 3))]
        self._client.insert_arrow("windows", pa.table(columns, names=COLUMNS))


def decimals(numbers: np.ndarray) -> pa.Array:
    """Arrow decimals of 64-bit integers: the upper half of each is its sign."""
    limbs = np.stack([numbers, numbers >> 63], axis=1)
    return pa.Array.from_buffers(_DECIMAL, len(numbers), [None, pa.py_buffer(limbs)])
