"""usage.export beside clickhouse-connect's own Arrow stream of the same rows, each in a process of its own.

The rows are made by ClickHouse (INSERT SELECT FROM numbers), so no worker runs.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink import reads
from meterfold_sink.client import connect
from meterfold_sink.migrate import migrate
from meterfold_sink.rules import FoldRules

PARTITIONS = 4
KINDS = ("stream", "arrow", "parquet", "csv", "jsonl")
COLUMNS = (
    "id, org_id, metric_key, subject_type, subject_id, quantity, source, resource_type, resource_id, metadata, "
    "timestamp, received_at, partition, offset"
)


@dataclass(frozen=True)
class Run:
    """One pass over all rows: seconds, CPU seconds of the process, its peak memory in bytes, and bytes written."""

    seconds: float
    cpu: float
    peak: int
    size: int


def fill(settings: ClickHouseSettings, rows: int) -> None:
    """A migrated database with this many records, and the progress behind them."""
    rules = FoldRules(cluster_id="bench", topic_id="bench", partition_count=PARTITIONS)
    each = rows // PARTITIONS
    with connect(settings, create_database=True) as client:
        migrate(client, rules)
        reads.write_settings_once(client, rules)
        for partition in range(PARTITIONS):
            client.command(
                "INSERT INTO usage_records (org_id, metric_key, subject_type, subject_id, id, quantity, source, "
                "resource_id, metadata, timestamp, received_at, partition, offset, identity_hash) "
                "SELECT concat('org', toString(number % 7)), concat('metric.', toString(number % 4)), 'user', "
                "concat('user-', toString(cityHash64(number) % 10000)), "
                "concat(lower(hex(cityHash64(number, 1))), '-', toString(number)), "
                "toDecimal128(number % 100000, 9) / 1000, if(number % 3 = 0, NULL, 'api'), "
                "if(number % 5 = 0, concat('res-', toString(number % 1000)), NULL), "
                "if(number % 2 = 0, concat('{{\"model\":\"m', toString(number % 10), '\"}}'), NULL), "
                "now64(6) - toIntervalSecond(3000000) + toIntervalMillisecond(number), "
                f"now64(6) - toIntervalSecond(3000000) + toIntervalMillisecond(number), {partition}, number, "
                f"cityHash64(number) FROM numbers({each})"
            )
            client.command(
                "INSERT INTO fold_progress "
                "(partition, next_offset, log_start, counted, duplicates, rejected, last_stamp) "
                f"VALUES ({partition}, {each}, 0, {each}, 0, 0, now64(6))"
            )


def measure(settings: ClickHouseSettings, kind: str) -> Run:
    """One of KINDS, in a new process."""
    # The JSON of the settings hides the password.
    values = {**settings.model_dump(mode="json"), "password": settings.password.get_secret_value()}
    environment = {**os.environ, "BENCH_CLICKHOUSE": json.dumps(values)}
    command = [sys.executable, __file__, kind]
    # A failure shows its traceback: standard error is not captured.
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return Run(**json.loads(done.stdout))


def _child(kind: str) -> None:
    settings = ClickHouseSettings(**json.loads(os.environ["BENCH_CLICKHOUSE"]))
    begun, size = time.monotonic(), 0
    if kind == "stream":
        from urllib.parse import urlsplit

        import clickhouse_connect

        parts = urlsplit(settings.url)
        client = clickhouse_connect.get_client(
            host=parts.hostname,
            port=parts.port,
            username=settings.username,
            password=settings.password.get_secret_value(),
            database=settings.database,
        )
        sql = f"SELECT {COLUMNS} FROM usage_records FINAL ORDER BY partition, received_at, offset"
        with client.query_arrow_stream(sql) as batches:
            for batch in batches:
                size += batch.nbytes
    else:
        from meterfold_service import Metering

        with tempfile.TemporaryDirectory() as folder, Metering(clickhouse=settings) as metering:
            size = metering.usage.export("records", to=Path(folder, f"all.{kind}")).size
    used = resource.getrusage(resource.RUSAGE_SELF)
    run = {
        "seconds": time.monotonic() - begun,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss * 1024,
        "size": size,
    }
    print(json.dumps(run))


if __name__ == "__main__":
    _child(sys.argv[1])
