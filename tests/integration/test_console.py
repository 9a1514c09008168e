"""The console on the real ClickHouse: links that sign in once, sessions that end, subjects, and verifications."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.console.links import sign_in_link
from meterfold_service.console.spent import Spent
from meterfold_service.http.app import create_app
from meterfold_service.http.context import HttpService
from meterfold_service.http.settings import HttpSettings
from meterfold_service.proofs.operations import Proofs
from meterfold_service.tokens.authentication import FRESH_SECONDS, Authentication
from meterfold_sink.client import connect
from meterfold_sink.reads import write_settings_once
from meterfold_sink.rules import FoldRules
from support import eventually
from support.http_server import KEY
from support.http_world import Clock, patient

URL = "http://127.0.0.1:8888"


@pytest.fixture
def metering(kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tables: None) -> Metering:
    with connect(clickhouse_settings) as client:
        write_settings_once(client, FoldRules(cluster_id="test", topic_id="test", partition_count=2))
        client.command(
            "INSERT INTO usage_windows SELECT 'acme', 'api.calls', 'user', concat('ada-', toString(number % 3)), "
            "'lifetime', toDateTime64(0, 6, 'UTC'), 0, 5, 7, 1, 2, 3, now64(6, 'UTC'), 4, number FROM numbers(6)"
        )
    return Metering(
        kafka=kafka_settings, clickhouse=clickhouse_settings, sources=Sources({"HTTP_TOKEN_KEY": KEY}, {}, None)
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(metering: Metering, clock: Clock) -> Iterator[Any]:
    authentication = Authentication(metering.tokens, lambda: datetime.now(UTC), clock)
    found = create_app(patient(HttpService(metering, authentication, HttpSettings(token_key=SecretStr(KEY)))))
    found.state.desk.spent._clock = clock
    with TestClient(found, base_url=URL) as first:
        found.state.portal = first.portal
        yield found


def browser(app: Any) -> TestClient:
    """One more browser, in the event loop of the application."""
    client = TestClient(app, base_url=URL, follow_redirects=False)
    client.portal = app.state.portal
    return client


def used(client: TestClient, link: str) -> Any:
    form = client.get(link)
    (text,) = parse_qs(urlsplit(link).query)["link"]
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', form.text)
    assert found is not None
    return client.post("/sign-in/link", data={"csrf": found[1], "link": text})


def test_a_link_signs_in_once_and_its_session_ends_with_its_token(app: Any, metering: Metering, clock: Clock) -> None:
    link = sign_in_link(metering, URL, name="ada", now=datetime.now(UTC))
    assert link.startswith(f"{URL}/sign-in/link?")
    mine, other = browser(app), browser(app)
    assert used(mine, link).status_code == 303
    assert used(other, link).status_code == 401
    page = mine.get("/subjects")
    assert page.status_code == 200
    assert page.text.count("/subjects/one?") == 3
    assert mine.get("/tokens").text.count("sign-in") == 0

    # A page of another site that this browser visits gets nothing of the API.
    for headers in ({}, {"Origin": "https://evil.example"}):
        answer = mine.get("/v1/metrics", headers=headers)
        assert (answer.status_code, answer.headers.get("access-control-allow-origin")) == (401, None)
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    assert "access-control-allow-origin" not in mine.options("/v1/metrics", headers=asked).headers

    copy = browser(app)
    copy.cookies.update(mine.cookies)
    assert copy.get("/metrics").status_code == 200
    csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', page.text)
    assert csrf is not None
    assert mine.post("/sign-out", data={"csrf": csrf[1]}).status_code == 303
    clock.now += FRESH_SECONDS
    assert copy.get("/metrics").status_code == 303

    again = browser(app)
    assert used(again, sign_in_link(metering, URL, name="ada", now=datetime.now(UTC))).status_code == 303
    (token, *_) = metering.tokens.list().rows
    metering.tokens.revoke(token.id)
    clock.now += FRESH_SECONDS
    assert again.get("/metrics").status_code == 303


def test_of_many_who_use_a_link_at_once_one_wins_at_most(metering: Metering) -> None:
    spent = Spent(metering.clients)
    for name in ("a", "b", "c"):
        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(spent.claim, [name] * 4))
        assert sum(won) <= 1
        assert not spent.claim(name)
        assert spent.is_spent(name)
    assert spent.claim("alone")


def test_subjects_are_found_by_a_part_of_their_id(metering: Metering) -> None:
    found = metering.usage.subjects("DA-1", org_id="acme")
    assert [(one.org_id, one.subject_type, one.subject_id, one.metrics) for one in found] == [
        ("acme", "user", "ada-1", 1)
    ]
    assert not metering.usage.subjects("ada", org_id="other")
    assert len(metering.usage.subjects()) == 3
    (metric,) = metering.usage.metrics_of(("user", "ada-1"), org_id="acme")
    assert (metric.metric_key, metric.records) == ("api.calls", 5)


def test_a_verification_is_kept_with_its_result(metering: Metering) -> None:
    def fails(tell: Any) -> Any:
        tell(1, 2, "a step")
        raise ValueError("broken")

    proofs = Proofs(metering.clients, fails, lambda: datetime.now(UTC))
    started = proofs.start(by="ada")
    assert started.state == "running"
    eventually(lambda: proofs.get(started.id).state == "failed", 30)
    (kept,) = proofs.list()
    assert (kept.by, kept.total) == ("ada", 2)
    assert "broken" in kept.doing
