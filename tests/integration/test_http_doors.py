"""OpenMeter's queries and lists, and Lago's current usage, over records in ClickHouse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient

from meterfold_schemas.definitions import MetricDefinition
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.http.app import create_app
from meterfold_service.http.context import HttpService
from meterfold_service.http.settings import HttpSettings
from meterfold_service.ingest.documents import parsed
from meterfold_service.lago import events as lago
from meterfold_service.openmeter.expansion import event_of, usage_of
from meterfold_service.openmeter.meters import Meter, definition_values
from meterfold_service.tokens.authentication import Authentication
from meterfold_sink.client import connect
from meterfold_sink.reads import write_settings_once
from meterfold_sink.rules import FoldRules
from support.http_world import define, patient
from support.sink.database import store
from support.sink.rows import Record

KEY = "k" * 32
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
STORAGE = {"key": "storage", "name": "Storage", "unit": "GB", "metadata": {"lago": {"field_name": "gb"}}}


def meter(slug: str, aggregation: str, value: str | None = None, **more: Any) -> Meter:
    given = {"slug": slug, "eventType": "prompt", "aggregation": aggregation, "valueProperty": value, **more}
    made = Meter.of(
        MetricDefinition(**definition_values(given, "acme"), id=f"m-{slug}", created_at=HOUR, updated_at=HOUR)
    )
    assert made is not None
    return made


METERS = (
    meter("tokens", "SUM", "$.tokens", groupBy={"model": "$.model", "type": "$.type"}),
    meter("prompts", "COUNT"),
    meter("models", "UNIQUE_COUNT", "$.model"),
    *(meter(f"t_{kind.lower()}", kind, "$.tokens") for kind in ("AVG", "MIN", "MAX", "LATEST")),
)
EVENTS = (
    # minutes, subject, data
    (0, "ada", {"tokens": 100, "model": "a", "type": "in"}),
    (1, "ada", {"tokens": 0.25, "model": "a", "type": "out"}),
    (61, "ada", {"tokens": "7", "model": "b"}),
    (62, "bob", {"tokens": "12345678901234567890.5", "model": "b", "type": "in"}),
    (63, "bob", {"tokens": "many", "model": "c"}),
)


def records() -> list[Record]:
    """What the fold stores of the events."""
    usage = []
    for number, (minutes, subject, data) in enumerate(EVENTS):
        time = (HOUR + timedelta(minutes=minutes)).isoformat()
        event = {"id": f"e-{number}", "source": "s", "type": "prompt", "subject": subject, "time": time, "data": data}
        usage += usage_of(event_of(parsed(json.dumps(event).encode())), METERS, HOUR)[0]
    storage = MetricDefinition(**STORAGE, id="m-storage", org_id="acme", created_at=HOUR, updated_at=HOUR)
    for number, gb in enumerate(("2.5", 4)):
        sent = {"transaction_id": f"t-{number}", "external_subscription_id": "sub", "code": "storage"}
        usage.append(lago.usage_of({**sent, "properties": {"gb": gb}}, {"storage": storage}))
    found = []
    for offset, one in enumerate(usage):
        more = {name: one.get(name) for name in ("source", "resource_type", "resource_id")}
        metadata = one.get("metadata")
        found.append(
            Record(
                offset,
                datetime.fromisoformat(one["timestamp"]) if one["timestamp"] else datetime.now(UTC),
                Decimal(one.get("quantity", 1)),
                one["subject_id"],
                one["metric_key"],
                subject_type=one["subject_type"],
                id=one["id"],
                more={**more, "metadata": None if metadata is None else json.dumps(metadata)},
            )
        )
    return found


@pytest.fixture
def client(
    kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tables: None
) -> Iterator[TestClient]:
    with connect(clickhouse_settings) as stored:
        write_settings_once(stored, FoldRules(cluster_id="test", topic_id="test", partition_count=1))
        store(stored, records())
        for one in METERS:
            define(stored, one.definition)
        define(stored, MetricDefinition(**STORAGE, id="m-storage", org_id="acme", created_at=HOUR, updated_at=HOUR))
        other = definition_values({"slug": "others", "eventType": "x", "aggregation": "COUNT"}, "other")
        define(stored, MetricDefinition(**other, id="m-others", created_at=HOUR, updated_at=HOUR))
    sources = Sources({"HTTP_TOKEN_KEY": KEY}, {}, None)
    metering = Metering(kafka=kafka_settings, clickhouse=clickhouse_settings, sources=sources)
    authentication = Authentication(metering.tokens, lambda: datetime.now(UTC))
    app = create_app(patient(HttpService(metering, authentication, HttpSettings(token_key=KEY))))
    token = metering.tokens.create(name="test", scopes=["read"], org_id="acme").text
    with TestClient(app, headers={"Authorization": f"Bearer {token}"}) as found:
        yield found


def at(minutes: int) -> str:
    return (HOUR + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def test_what_openmeter_and_lago_answer(client: TestClient) -> None:
    def rows(slug: str, **query: Any) -> list[tuple[Any, ...]]:
        answer = client.get(f"/api/v1/meters/{slug}/query", params=query)
        assert answer.status_code == 200, answer.text
        found = json.loads(answer.text, parse_float=Decimal)["data"]
        return [(row["windowStart"], row["subject"], *row["groupBy"].values(), row["value"]) for row in found]

    whole = Decimal("12345678901234567997.75")
    assert [row[-1] for row in rows("tokens")] == [whole]
    day = {"from": at(0), "to": at(120)}
    assert rows("tokens", **day, windowSize="HOUR", subject=["ada"]) == [
        (at(0), "ada", Decimal("100.25")),
        (at(60), "ada", 7),
    ]
    grouped = rows("tokens", **day, groupBy=["model", "type"], **{"filterGroupBy[model]": ["a", "b"]}, subject=["ada"])
    assert sorted((*row[2:4],) for row in grouped) == [("a", "in"), ("a", "out"), ("b", None)]
    assert [row[-1] for row in rows("tokens", **day, windowSize="MINUTE", **{"filterGroupBy[type]": "in"})] == [
        100,
        Decimal("12345678901234567890.5"),
    ]
    assert next(row[::2] for row in rows("tokens", **{**day, "from": at(1)}, windowSize="HOUR")) == (
        at(0),
        Decimal("0.25"),
    )
    assert [row[1:] for row in rows("prompts", groupBy="subject")] == [("ada", 3), ("bob", 2)]
    assert [row[1:] for row in rows("models", subject="bob")] == [("bob", 2)]
    one = {"subject": "ada"}
    assert [rows(f"t_{kind}", **one)[0][-1] for kind in ("min", "max", "latest")] == [Decimal("0.25"), 100, 7]
    assert rows("t_avg", **one)[0][-1] == Decimal("35.75")
    assert rows("tokens", **{"from": at(600), "to": at(660)}) == []
    for query in ({"groupBy": "nothing"}, {"windowSize": "DAY"}, {"from": "soon"}, {"filterCustomerId": "a"}):
        assert client.get("/api/v1/meters/tokens/query", params=query).status_code == 422
    body = {"from": at(0), "to": at(120), "groupBy": ["subject"], "filterGroupBy": {"model": ["b"]}}
    posted = client.post("/api/v1/meters/tokens/query", json=body).json()["data"]
    assert [row["subject"] for row in posted] == ["ada", "bob"]
    table = client.get("/api/v1/meters/tokens/query", params={"groupBy": "model"}, headers={"Accept": "text/csv"})
    assert table.text.splitlines()[0] == "window_start,window_end,subject,model,value"
    assert table.headers["content-type"].startswith("text/csv")

    assert [one["slug"] for one in client.get("/api/v1/meters").json()] == sorted(one.key for one in METERS)
    assert client.get("/api/v1/meters/m-tokens").json()["groupBy"] == {"model": "$.model", "type": "$.type"}
    for path in ("/api/v1/meters/others", "/api/v1/meters/storage", "/api/v1/subjects/nobody"):
        assert client.get(path).status_code == 404
    assert client.get("/api/v1/meters/tokens/group-by/type/values").json() == ["in", "out"]
    assert client.get("/api/v1/meters/tokens/subjects").json() == ["ada", "bob"]
    assert [one["key"] for one in client.get("/api/v1/subjects").json()] == ["ada", "bob"]

    listed = client.get("/api/v1/events").json()
    assert [one["event"]["id"] for one in listed] == ["e-4", "e-3", "e-2", "e-1", "e-0"]
    assert listed[-1]["event"]["data"] == EVENTS[0][2]
    assert "not a decimal number" in listed[0]["validationError"]
    assert "validationError" not in listed[1]
    some = client.get("/api/v1/events", params={"subject": "ada", "from": at(1), "to": at(62), "limit": 1}).json()
    assert [one["event"]["id"] for one in some] == ["e-2"]
    assert [one["event"]["id"] for one in client.get("/api/v1/events", params={"id": "e-1"}).json()] == ["e-1"]

    usage = client.get("/api/v1/customers/c/current_usage", params={"external_subscription_id": "sub"}).json()
    (charge,) = usage["customer_usage"]["charges_usage"]
    assert (charge["billable_metric"]["code"], charge["units"], charge["events_count"]) == ("storage", "6.5", 2)
