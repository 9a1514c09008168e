"""Events over HTTP on the real stack: what is answered is counted, whatever happens to the server or to Kafka."""

from __future__ import annotations

import gzip
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import zstandard

from meterfold_cli.local_run import command
from meterfold_local.process import ManagedProcess
from meterfold_local.stack import LocalStack
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from support import eventually
from support.fold.installation import Installation
from support.fold.workers import running
from support.http_server import KEY, served

DAY = timedelta(days=1)


@pytest.fixture
def installation(
    kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tables: None
) -> Iterator[Installation]:
    one = Installation(kafka_settings, clickhouse_settings)
    yield one
    one.close()


def event(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f"r-{number}",
        "metric_key": "api.calls",
        "subject_type": "user",
        "subject_id": f"u-{number % 5}",
        "quantity": "2.5",
        "timestamp": datetime.now(UTC).isoformat(),
        **more,
    }


def statuses(answer: httpx.Response) -> list[str]:
    return [one["status"] for one in answer.json()["results"]]


def test_every_event_has_its_result_and_what_is_accepted_is_counted(installation: Installation) -> None:
    """JSON, CloudEvents in their three modes, compressed bodies, and what is refused, in one server."""
    with served(installation.kafka, installation.clickhouse, max_body_bytes=100_000, max_events=50) as server:
        with server.client("ingest", org_id="acme") as client, running(installation):

            def post(content: Any, **headers: str) -> httpx.Response:
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                named = {name.replace("_", "-"): value for name, value in headers.items()}

                def asked() -> httpx.Response | None:
                    answer = client.post("/v1/events", content=body, headers=named)
                    return answer if answer.status_code != 503 else None  # a busy broker

                return eventually(asked, 120)

            one = post(event(1, metadata={"route": "/v1", "cost": 0.10}))
            assert (one.status_code, statuses(one)) == (200, ["accepted"]), one.text
            at = (one.json()["results"][0]["partition"], one.json()["results"][0]["offset"])

            old = datetime.now(UTC) - 36 * DAY
            mixed = post(
                [
                    event(2),
                    event(3, quantity="a lot"),
                    event(2),
                    event(4, org_id="other"),
                    event(5, colour="red"),
                    event(6, timestamp=old.isoformat()),
                    {**event(7), "id": None},
                    "what",
                ]
            )
            assert mixed.status_code == 207, mixed.text
            found = [(one["status"], one.get("code"), one.get("field")) for one in mixed.json()["results"]]
            assert found == [
                ("accepted", None, None),
                ("refused", "INVALID_USAGE", "quantity"),
                ("repeated", None, None),
                ("refused", "FORBIDDEN", "org_id"),
                ("refused", "INVALID_USAGE", None),
                ("refused", "TOO_OLD", "timestamp"),
                ("accepted", None, None),
                ("refused", "INVALID_USAGE", None),
            ]
            made = mixed.json()["results"][6]["id"]
            refused = post([event(8, quantity="NaN")])
            assert (refused.status_code, refused.json()["code"], statuses(refused)) == (
                422,
                "INVALID_USAGE",
                ["refused"],
            )

            fields = {name: value for name, value in event(9).items() if name not in ("id", "timestamp")}
            attributes = {"specversion": "1.0", "type": "usage.recorded", "source": "gateway", "id": "ce-1"}
            stamped = {**attributes, "time": datetime.now(UTC).isoformat(), "data": fields}
            assert post(stamped, content_type="application/cloudevents+json").status_code == 200
            batch = [{**stamped, "id": "ce-2"}, {**stamped, "id": "ce-3", "type": "other"}]
            some = post(batch, content_type="application/cloudevents-batch+json")
            assert (some.status_code, statuses(some)) == (207, ["accepted", "refused"])
            binary = {f"ce-{name}": value for name, value in {**attributes, "id": "ce%204"}.items()}
            assert post(fields, content_type="application/json", **binary).json()["results"][0]["id"] == "ce 4"

            packed = json.dumps([event(10)]).encode()
            assert post(gzip.compress(packed), content_encoding="gzip").status_code == 200
            packed = json.dumps([event(11)]).encode()
            assert post(zstandard.compress(packed), content_encoding="zstd").status_code == 200
            bomb = b" " * 50_000_000
            for content, headers, status in (
                (gzip.compress(bomb), {"content_encoding": "gzip"}, 413),
                (zstandard.compress(bomb), {"content_encoding": "zstd"}, 413),
                (bomb[:100_001], {}, 413),
                ([event(12)] * 51, {}, 413),
                ([], {}, 400),
                (b"\xff", {}, 400),
                (b"[", {}, 400),
                (packed, {"content_encoding": "gzip"}, 400),
                (packed, {"content_encoding": "br"}, 415),
            ):
                answer = post(content, **headers)
                assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
            installation.wait_folded()
        with server.client("read") as reader:
            assert reader.post("/v1/events", json=event(13)).status_code == 403
    rows = installation.rows("usage_records")
    assert {row["id"] for row in rows} == {"r-1", "r-2", made, "ce-1", "ce-2", "ce 4", "r-10", "r-11"}
    assert {(row["org_id"], row["quantity"]) for row in rows} == {("acme", Decimal("2.5"))}
    (first,) = (row for row in rows if row["id"] == "r-1")
    assert (first["partition"], first["offset"], first["metadata"]) == (*at, '{"route":"/v1","cost":0.1}')
    assert {row["source"] for row in rows if row["id"].startswith("ce")} == {"gateway"}
    assert installation.rows("usage_rejected") == []


@pytest.fixture
def start(installation: Installation, stack_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Starts a `meterfold serve` process: it, and its address."""
    started: list[ManagedProcess] = []
    environment = {**stack_environment, "METERFOLD_HTTP_TOKEN_KEY": KEY, "METERFOLD_HTTP_PORT": "0"}

    def make() -> tuple[ManagedProcess, str]:
        log = tmp_path / f"serve-{len(started)}.log"
        process = ManagedProcess("serve", command("serve"), log, env=environment)
        started.append(process)
        process.start()
        line = process.wait_for_line("serve: ready", 120)
        return process, line.split("listening on ")[1].split(";")[0].strip()

    yield make
    for process in started:
        process.kill()


def test_a_server_that_is_killed_has_lost_nothing_that_it_answered(
    installation: Installation, start: Callable[[], Any]
) -> None:
    process, url = start()
    from meterfold_schemas.settings_sources import Sources
    from meterfold_service import Metering

    sources = Sources({"HTTP_TOKEN_KEY": KEY}, {}, None)
    with Metering(kafka=installation.kafka, clickhouse=installation.clickhouse, sources=sources) as metering:
        token = metering.tokens.create(name="test", scopes=["ingest"]).text
    headers = {"Authorization": f"Bearer {token}"}
    answered: set[str] = set()
    sent: list[int] = []
    broken = Event()

    def send(first: int) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            for number in range(first, 10**9, 4_000):
                batch = [event(place, id=f"r-{place}") for place in range(number, number + 20)]
                sent.append(number)
                try:
                    answer = client.post("/v1/events", json=batch)
                except httpx.HTTPError:
                    broken.set()
                    return
                if answer.status_code == 503:  # a busy broker
                    continue
                assert answer.status_code == 200, answer.text
                answered.update(one["id"] for one in answer.json()["results"])

    with ThreadPoolExecutor(4) as pool, running(installation):
        futures = [pool.submit(send, first) for first in range(0, 4_000, 1_000)]
        eventually(lambda: len(answered) >= 400 or any(one.done() for one in futures), 120, "400 events are answered")
        process.signal(signal.SIGKILL)
        for future in futures:
            future.result(120)
        assert broken.is_set()
        assert len(answered) < 20 * len(sent), "the server was killed between requests"
        installation.wait_folded()
    counted = {row["id"] for row in installation.rows("usage_records")}
    assert answered <= counted
    assert counted <= {f"r-{number + place}" for number in sent for place in range(20)}


def test_kafka_is_away_and_comes_back(own_stack: LocalStack) -> None:
    clickhouse = own_stack.clickhouse_settings("away")
    installation = Installation(own_stack.kafka_settings("away."), clickhouse)
    try:
        with served(installation.kafka, clickhouse, delivery_seconds=5) as server, server.client("ingest") as client:
            eventually(lambda: client.post("/v1/events", json=event(1)).status_code == 200, 120, "the first event")
            own_stack.kafka.broker(1).kill()

            def refused() -> bool:
                begun = time.monotonic()
                answer = client.post("/v1/events", json=event(2))
                assert time.monotonic() - begun < 15
                return answer.status_code == 503 and answer.json()["code"] == "KAFKA_UNAVAILABLE"

            eventually(refused, 60, "new requests are refused at once")
            answer = client.post("/v1/events", json=event(2))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            own_stack.kafka.restart(1)
            again = eventually(
                lambda: (found := client.post("/v1/events", json=event(2))).status_code == 200 and found, 120, "again"
            )
            assert statuses(again) == ["accepted"]
    finally:
        installation.close()
