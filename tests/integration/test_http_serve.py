"""`meterfold serve` as a process sees it: limits from Kafka, servers that are away, slow clients, exports."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterfold_local.stack import LocalStack
from meterfold_processor.kafka.clients import Outgoing, publish
from meterfold_processor.kafka.clients import producer as make_producer
from meterfold_schemas.events import ThresholdState
from meterfold_schemas.periods import Period
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import THRESHOLD_STATE, Topics
from meterfold_schemas.vocabulary import Action, Level
from support.http_server import Forwarder, Served, served
from support.http_world import MONTH, PER_ORG, World, bearer, fill, world
from support.kafka import admin, create_topics
from support.sink.database import database
from support.waiting import eventually

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def filled(stack: LocalStack) -> Iterator[ClickHouseSettings]:
    with database(stack) as client:
        fill(client)
        yield stack.clickhouse_settings(client.database)


def state(threshold_id: str, level: Level = Level.EXCEEDED, **more: Any) -> ThresholdState:
    values: dict[str, Any] = {
        **dict.fromkeys(("crossing_approaching", "crossing_exceeded"), 1),
        **dict.fromkeys(("folded_through", "metric_position", "threshold_position"), 1),
        "threshold_id": threshold_id,
        "name": "quota",
        "org_id": "red",
        "metric_key": "every.metric",
        "subject_type": "user",
        "subject_id": "red-ada",
        "period_type": Period.DAILY,
        "occurred_at": NOW,
        "period_start": NOW,
        "period_end": NOW + timedelta(days=1),
        "level": level,
        "action": Action.BLOCK,
        "value": Decimal(11),
        "threshold": Decimal(10),
        "warn_threshold": Decimal(8),
    }
    return ThresholdState(**{**values, **more})


def tell(kafka: KafkaSettings, *states: ThresholdState, gone: bool = False) -> None:
    topic = Topics(kafka.topic_prefix).threshold_state
    messages = [
        Outgoing(topic, None if gone else one.to_bytes(), one.key, number % 2) for number, one in enumerate(states)
    ]
    publish(make_producer(kafka), messages, 20)


def test_limits_follow_the_topic_also_when_it_is_created_again(
    kafka_settings: KafkaSettings, filled: ClickHouseSettings
) -> None:
    create_topics(kafka_settings, THRESHOLD_STATE, partitions=2, **{"cleanup.policy": "compact"})
    tell(kafka_settings, state("a"), state("near", Level.APPROACHING), state("c", org_id="blue"))
    with world(kafka_settings, filled) as made, served(kafka_settings, filled, wait_seconds=1) as server:
        token = made.token("red", "read", org_id="red")
        subject = made.token(
            "subject", "read", org_id="red", subject=("user", "red-ada"), expires_in=timedelta(hours=1)
        )

        def limits(of: str = "red-ada", token: str = token) -> httpx.Response:
            return httpx.get(f"{server.url}/v1/limits/user/{of}", headers=bearer(token), timeout=30)

        def names() -> list[str] | None:
            found = limits()
            return [one["threshold_id"] for one in found.json()["limits"]] if found.status_code == 200 else None

        eventually(lambda: names() == ["a", "near"])
        found = limits(token=subject).json()
        assert (found["blocked"], found["limits"][0]["value"], found["org_id"]) == (True, "11", "red")
        assert found["as_of"] >= NOW.isoformat().replace("+00:00", "Z")
        assert httpx.get(f"{server.url}/readyz").json() == {"ready": True, "waiting_for": [], "slow": []}
        assert limits("red-bob", subject).status_code == 403
        assert limits("red-bob").json()["limits"] == []

        tell(kafka_settings, state("a", Level.NONE))
        tell(kafka_settings, state("x"), state("near"), gone=True)
        eventually(lambda: names() == [])

        tell(kafka_settings, state("old"))
        eventually(lambda: names() == ["old"])
        name = Topics(kafka_settings.topic_prefix).threshold_state
        client = admin(kafka_settings)
        for future in client.delete_topics([name]).values():
            future.result(20)
        create_topics(kafka_settings, THRESHOLD_STATE, partitions=2, **{"cleanup.policy": "compact"})
        # As many messages as were read before: the offsets alone do not show that the topic is another one.
        tell(kafka_settings, *[state(f"new-{number}") for number in range(20)])
        eventually(lambda: names() is not None and len(names() or ()) == 20, 60)


def test_a_revocation_reaches_every_server_and_a_server_says_within_seconds_that_another_one_is_away(
    kafka_settings: KafkaSettings, filled: ClickHouseSettings
) -> None:
    parts = urlsplit(filled.url)
    way = Forwarder(parts.hostname or "", parts.port or 0)
    through = filled.model_copy(update={"url": f"http://127.0.0.1:{way.port}"})
    nowhere = kafka_settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    with (
        world(kafka_settings, filled) as made,
        served(nowhere, through, wait_seconds=1) as one,
        served(nowhere, filled, wait_seconds=1) as two,
    ):
        token = made.token("both", "manage")

        def get(server: Served, path: str = "/v1/alerts", text: str = token) -> httpx.Response:
            return httpx.get(server.url + path, headers=bearer(text), timeout=30)

        assert {get(server).status_code for server in (one, two)} == {200}

        # Kafka is away: reading continues, a change says so.
        metric = {"key": "new", "name": "new", "unit": "call"}
        begun = time.monotonic()
        refused = httpx.post(f"{two.url}/v1/metrics", json=metric, headers=bearer(token), timeout=30)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert time.monotonic() - begun < 10
        assert get(two, "/v1/limits/user/ada").json()["code"] == "LIMITS_NOT_READY"
        assert get(two, "/readyz").json()["waiting_for"] == ["limits"]

        # ClickHouse is away, for one of the servers.
        way.close()
        begun = time.monotonic()
        eventually(lambda: get(one).json().get("code") == "UNAVAILABLE")
        assert time.monotonic() - begun < 10
        away = get(one)
        assert (away.status_code, away.json()["code"]) == (503, "UNAVAILABLE")
        assert "clickhouse" in get(one, "/readyz").json()["waiting_for"]
        assert get(two).status_code == 200
        way.open()
        eventually(lambda: get(one).status_code == 200)

        made.metering.tokens.revoke(token.split("_")[1])
        for server in (one, two):
            eventually(lambda server=server: get(server).status_code == 401, 10)  # type: ignore[misc]


def test_slow_clients_do_not_stop_the_others(kafka_settings: KafkaSettings, filled: ClickHouseSettings) -> None:
    with world(kafka_settings, filled) as made, served(kafka_settings, filled, body_seconds=1) as server:
        token = made.token("all", "manage")
        host, port = server.url.removeprefix("http://").split(":")
        slow = [socket.create_connection((host, int(port))) for _ in range(200)]
        head = f"POST /v1/metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        for number, one in enumerate(slow):
            # Some have sent a part of the head, the others a part of the body.
            whole = f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
            one.sendall(whole[: len(head) if number % 2 else None].encode())
        for _ in range(5):
            found = httpx.get(f"{server.url}/v1/alerts", headers=bearer(token), timeout=30)
            assert found.status_code == 200
        slow[0].settimeout(30)
        assert b"408" in slow[0].recv(65_536)
        slow[1].settimeout(30)
        assert slow[1].recv(1) == b"", "a head that does not end is given up"
        for one in slow:
            one.close()


def test_what_is_no_http_is_answered_with_a_problem(kafka_settings: KafkaSettings, filled: ClickHouseSettings) -> None:
    with served(kafka_settings, filled) as server:
        parts = urlsplit(server.url)
        with socket.create_connection((parts.hostname, parts.port), 30) as client:
            client.sendall(b"garbage\r\n\r\n")
            with client.makefile("rb") as file:
                head, _, body = file.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["code"] == "BAD_REQUEST"


@pytest.fixture
def made(kafka_settings: KafkaSettings, filled: ClickHouseSettings) -> Iterator[World]:
    with world(kafka_settings, filled, exports=1) as found:
        yield found


def test_an_export_streams_each_format_and_an_organization_gets_its_own_rows(made: World) -> None:
    token = made.token("red", "read", org_id="red")

    def export(what: str, kind: str, **more: str) -> bytes:
        answer = made.get(f"/v1/exports/{what}", token, format=kind, **more)
        assert answer.status_code == 200, answer.text
        assert f'filename="{what}.{kind}"' in answer.headers["content-disposition"]
        content: bytes = answer.content
        return content

    lines = [json.loads(line) for line in export("records", "jsonl").splitlines()]
    assert [one["org_id"] for one in lines] == ["red"] * PER_ORG
    assert {type(one["quantity"]) for one in lines} == {str}
    assert export("records", "csv").decode().count("red-model") == PER_ORG
    table = pq.read_table(io.BytesIO(export("records", "parquet")))
    assert (table.num_rows, set(table["org_id"].to_pylist())) == (PER_ORG, {"red"})
    assert pa.ipc.open_stream(export("summaries", "arrow")).read_all().num_rows == 2
    assert b"blue" not in export("rejected", "jsonl") + export("summaries", "csv", period="monthly")
    end = MONTH.isoformat().replace("+00:00", "Z")
    assert export("records", "jsonl", end=end) == b""
    app: Any = made.client.app
    limit, portal = app.state.service.exports, made.client.portal
    assert portal is not None
    portal.call(limit.acquire)
    busy = made.get("/v1/exports/records", token)
    assert (busy.status_code, busy.json()["code"], busy.headers["retry-after"]) == (503, "TOO_MANY_EXPORTS", "2")
    portal.call(limit.release)
    wrong = made.get("/v1/exports/records", token, start=end, end="2020-01-01T00:00:00Z")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "INVALID_USAGE")
