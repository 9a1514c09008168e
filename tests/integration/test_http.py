"""The HTTP API on the real ClickHouse: tokens, errors, and operations through `Scoped`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.access.principal import Scope
from meterfold_service.http.app import create_app
from meterfold_service.http.context import HttpService
from meterfold_service.http.settings import HttpSettings
from meterfold_service.tokens.authentication import FRESH_SECONDS, USES_SECONDS, Authentication
from meterfold_sink.client import connect
from meterfold_sink.reads import write_settings_once
from meterfold_sink.rules import FoldRules
from support.altered import altered
from support.http_server import KEY
from support.http_world import Clock, bearer, patient


@pytest.fixture
def metering(kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tables: None) -> Metering:
    with connect(clickhouse_settings) as client:
        write_settings_once(client, FoldRules(cluster_id="test", topic_id="test", partition_count=2))
    return Metering(
        kafka=kafka_settings,
        clickhouse=clickhouse_settings,
        sources=Sources({"HTTP_TOKEN_KEY": KEY}, {}, None),
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(metering: Metering, clock: Clock) -> Iterator[TestClient]:
    authentication = Authentication(metering.tokens, lambda: datetime.now(UTC), clock)
    service = patient(HttpService(metering, authentication, HttpSettings(token_key=SecretStr(KEY))))
    with TestClient(create_app(service)) as found:
        yield found


def test_a_token_is_needed_and_a_revocation_reaches_a_server_within_seconds(
    client: TestClient, metering: Metering, clock: Clock
) -> None:
    created = metering.tokens.create(name="billing", scopes=[Scope.READ], org_id="acme")
    assert created.text not in repr(created)

    def get(headers: dict[str, str]) -> Any:
        return client.get("/v1/metrics", headers=headers)

    assert get(bearer(created.text)).json() == {"total": 0, "data": [], "next_cursor": None, "undefined": []}
    for headers in ({}, bearer("mf_x"), bearer(altered(created.text)), bearer("mf_" + "a" * 51)):
        answer = get(headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_TOKEN"), headers
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"
    refused = client.post("/v1/metrics", headers=bearer(created.text), json={"key": "a", "name": "A", "unit": "calls"})
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    other = client.get("/v1/metrics", params={"org_id": "other"}, headers=bearer(created.text))
    assert other.status_code == 403

    clock.now += USES_SECONDS
    client.app.state.service.authentication.note_uses()  # type: ignore[attr-defined]
    (used,) = metering.tokens.list().rows
    assert used.last_used_at is not None

    metering.tokens.revoke(created.token.id)
    clock.now += FRESH_SECONDS
    assert get(bearer(created.text)).status_code == 401
    (stored,) = metering.tokens.list().rows
    assert stored.revoked_at is not None


def test_an_expired_token_is_refused(client: TestClient, metering: Metering) -> None:
    created = metering.tokens.create(name="page", scopes=["read"], expires_in=timedelta(microseconds=1))
    assert client.get("/v1/metrics", headers=bearer(created.text)).status_code == 401


def test_a_request_that_cannot_be_understood_names_each_field(client: TestClient, metering: Metering) -> None:
    token = bearer(metering.tokens.create(name="me", scopes=["admin"]).text)
    answer = client.get("/v1/usage/api.calls/summary", params={"limit": 0}, headers=token)
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], {one["pointer"] for one in problem["errors"]}) == ("INVALID_REQUEST", {"start", "limit"})
    missing = client.get("/v1/usage/api.calls/summary", params={"start": "2026-11-01T00:00:00Z"}, headers=token)
    assert (missing.status_code, missing.json()["code"]) == (404, "METRIC_NOT_FOUND")
    nowhere = client.get("/v1/nowhere", headers=token)
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "NOT_FOUND")


def test_a_body_that_may_be_left_out_cannot_be_null(client: TestClient, metering: Metering) -> None:
    """The OpenAPI document allows an object alone: clients that are generated would send null, or break, otherwise."""
    token = bearer(metering.tokens.create(name="me", scopes=["admin"]).text)
    headers = {**token, "Content-Type": "application/json"}
    tried = 0
    for path, operations in client.get("/v1/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody")
            if body is None or body.get("required"):
                continue
            assert "$ref" in body["content"]["application/json"]["schema"], (method, path)
            answer = client.request(method, path.replace("{alert_id}", "a-1"), content=" null", headers=headers)
            assert (answer.status_code, "null" in answer.json()["detail"]) == (422, True), (method, path, answer.text)
            tried += 1
    assert tried >= 4
