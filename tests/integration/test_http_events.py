"""Events over HTTP on the real stack: what is answered is counted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from support.fold.installation import Installation
from support.fold.workers import running
from support.served import Served, served


@pytest.fixture
def installation(
    kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tables: None
) -> Iterator[Installation]:
    one = Installation(kafka_settings, clickhouse_settings)
    yield one
    one.close()


@pytest.fixture
def server(installation: Installation) -> Iterator[Served]:
    with served(installation.kafka, installation.clickhouse) as one:
        yield one


def test_an_event_that_is_answered_is_counted(installation: Installation, server: Served) -> None:
    now = datetime.now(UTC)
    event = {
        "id": "request-1",
        "metric_key": "api.calls",
        "subject_type": "user",
        "subject_id": "ada",
        "quantity": 2.5,
        "timestamp": now.isoformat(),
        "metadata": {"route": "/v1"},
    }
    with server.client("ingest", org_id="acme") as client, running(installation):
        answer = client.post("/v1/events", json=event)
        assert answer.status_code == 200, answer.text
        (result,) = answer.json()["results"]
        assert (result["status"], result["id"]) == ("accepted", "request-1")
        mixed = client.post(
            "/v1/events",
            json=[
                {**event, "id": "r-2"},
                {**event, "quantity": "a lot"},
                {**event, "id": "r-2"},
                {**event, "id": "r-3", "org_id": "other"},
            ],
        )
        assert mixed.status_code == 207, mixed.text
        assert [one["status"] for one in mixed.json()["results"]] == ["accepted", "refused", "repeated", "refused"]
        assert mixed.json()["results"][1]["field"] == "quantity"
        assert mixed.json()["results"][3]["code"] == "FORBIDDEN"
        installation.wait_folded()
    rows = installation.rows("usage_records")
    assert {(row["id"], row["org_id"], row["quantity"], row["metadata"]) for row in rows} == {
        ("request-1", "acme", Decimal("2.5"), '{"route":"/v1"}'),
        ("r-2", "acme", Decimal("2.5"), '{"route":"/v1"}'),
    }
    at = {(row["partition"], row["offset"]) for row in rows}
    assert (result["partition"], result["offset"]) in at
