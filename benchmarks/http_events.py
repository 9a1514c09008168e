"""POST /v1/events: events per second and CPU per event by batch size; every accepted event is counted once."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import machine
from meterfold_cli.local_run import command
from meterfold_local.stack import LocalStack
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_sink import fold_state
from meterfold_sink.client import connect

BATCHES = (1, 10, 100, 1_000)
CONNECTIONS = 8
KEY = "k" * 32
DEADLINE = 300.0


@dataclass(frozen=True)
class Run:
    """Events per second, microseconds of CPU per event by process, and latencies of requests in seconds."""

    batch: int
    rate: float
    cpu: dict[str, float]
    p50: float
    p99: float


def measure(
    stack: LocalStack, kafka: KafkaSettings, clickhouse: ClickHouseSettings, config: Path, seconds: int
) -> Iterator[Run]:
    """One run of `seconds` per batch size; SystemExit when the fold has counted another number of events in the end."""
    environment = {"METERFOLD_CONFIG": str(config), "METERFOLD_HTTP_TOKEN_KEY": KEY, "METERFOLD_HTTP_PORT": "0"}
    with Metering(kafka=kafka, clickhouse=clickhouse, sources=Sources({"HTTP_TOKEN_KEY": KEY}, {}, None)) as metering:
        token = metering.tokens.create(name="bench", scopes=["ingest"]).text
    server = stack.spawn("bench-serve", command("serve"), environment)
    url = server.wait_for_line("serve: ready", 60).split("listening on ")[1].split(";")[0].strip()
    pids = {"server": server.pid, "Kafka": stack.kafka.brokers[0].process.pid}
    accepted = 0
    for batch in BATCHES:
        accepted += int(_load(url, token, batch, 1)["accepted"])  # warms the caches
        before = {name: machine.sample(pid).cpu for name, pid in pids.items()}
        begun = time.monotonic()
        found = _load(url, token, batch, seconds)
        took = time.monotonic() - begun
        after = {name: machine.sample(pid).cpu for name, pid in pids.items()}
        events = int(found["accepted"])
        accepted += events
        cpu = {name: (after[name] - before[name]) / events * 1e6 for name in pids}
        yield Run(batch, events / took, cpu, found["p50"], found["p99"])
    stack.end(server)
    _check(stack, clickhouse, environment, accepted)


def _load(url: str, token: str, batch: int, seconds: float) -> dict[str, float]:
    script = str(Path(__file__).with_name("http_client.py"))
    done = subprocess.run(
        [sys.executable, script, url, token, str(batch), str(CONNECTIONS), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=seconds + 120,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _check(stack: LocalStack, clickhouse: ClickHouseSettings, environment: dict[str, str], accepted: int) -> None:
    """The fold counts what the server has answered."""
    worker = stack.spawn("bench-http-fold", command("fold"), environment)
    worker.wait_for_line("fold: ready", 60)
    until = time.monotonic() + DEADLINE
    with connect(clickhouse) as client:
        while True:
            rows = fold_state.read_progress(client).values()
            counts = [sum(getattr(row, name) for row in rows) for name in ("counted", "duplicates", "rejected")]
            if counts == [accepted, 0, 0]:
                break
            if time.monotonic() > until:
                raise SystemExit(
                    f"{accepted:,} events were accepted; the fold has counted, repeated, rejected {counts}"
                )
            time.sleep(0.2)
    stack.end(worker)
