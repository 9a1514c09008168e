"""/v1/events and the doors without servers: a producer that reports when the test says so, and no ClickHouse."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import KafkaError
from fastapi.testclient import TestClient
from httpx import Response

from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_schemas.usage import UsageRecorded
from meterfold_service import Metering
from meterfold_service.access.principal import Principal, Scope
from meterfold_service.http.app import create_app, operations
from meterfold_service.http.context import Caller, HttpService, caller
from meterfold_service.http.settings import HttpSettings
from meterfold_service.ingest.errors import KafkaUnavailable
from meterfold_service.ingest.reachable import Reachable
from meterfold_service.tokens.authentication import Authentication
from support import eventually
from support.scripted_producer import ScriptedProducer, scripted_senders

KEY = "k" * 32
JSON = {"Content-Type": "application/json"}
EVENT = {"id": "r-1", "metric_key": "api.calls", "subject_type": "user", "subject_id": "ada"}


@dataclass
class Door:
    """The application, its producers, and a thread that sends: an answer waits for the report of its events."""

    client: TestClient
    metering: Metering
    producers: list[ScriptedProducer]
    pool: ThreadPoolExecutor

    def post(self, content: Any, path: str = "/v1/events", **headers: str) -> Future[Response]:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.pool.submit(self.client.post, path, content=body, headers=headers)

    def confirmed(self, content: Any, count: int, error: KafkaError | None = None, **how: Any) -> Response:
        """The answer, once `count` messages are taken and reported."""
        answer = self.post(content, **how)
        eventually(lambda: len(self.producers[0].held) == count or answer.done(), 60)
        assert len(self.producers[0].held) == count, answer.result().text
        assert not answer.done()
        self.producers[0].report(error=error)
        return answer.result(60)

    @property
    def sent(self) -> list[UsageRecorded]:
        return [UsageRecorded.from_bytes(value) for value in self.producers[0].values]


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    producers = scripted_senders(monkeypatch)
    sources = Sources({"HTTP_TOKEN_KEY": KEY, "SDK_BUFFER_EVENTS": "20"}, {}, None)
    metering = Metering(
        kafka=KafkaSettings(bootstrap_servers="nowhere:1"),
        clickhouse=ClickHouseSettings(url="http://nowhere:1"),
        sources=sources,
    )
    authentication = Authentication(metering.tokens, lambda: datetime.now(UTC))
    service = HttpService(metering, authentication, HttpSettings(token_key=KEY, max_events=20))
    app = create_app(service)
    principal = Principal("test", frozenset({Scope.INGEST}), "acme")
    app.dependency_overrides[caller] = lambda: Caller(service, principal)
    service.availability.away.set()  # ClickHouse
    with TestClient(app) as client, ThreadPoolExecutor(4) as pool:
        metering.events.is_doubtful  # noqa: B018  # opens the producer
        yield Door(client, metering, producers, pool)
        producers[0].report()


def test_an_answer_waits_for_every_report_and_clickhouse_may_be_away(door: Door) -> None:
    answer = door.confirmed([EVENT, {**EVENT, "id": "r-2"}, EVENT], 2)
    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 2,
        "repeated": 1,
        "refused": 0,
        "failed": 0,
        "results": [
            {"status": "accepted", "id": "r-1", "partition": 3, "offset": 1},
            {"status": "accepted", "id": "r-2", "partition": 3, "offset": 2},
            {"status": "repeated", "id": "r-1", "partition": 3, "offset": 1},
        ],
    }
    assert {event.org_id for event in door.sent} == {"acme"}


def test_what_is_not_confirmed_is_failed_and_its_repeats_too(door: Door) -> None:
    answer = door.confirmed([EVENT, EVENT, {**EVENT, "quantity": "x"}], 1, KafkaError(KafkaError._MSG_TIMED_OUT))
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (503, "2", "DELIVERY_FAILED")
    assert [one["status"] for one in answer.json()["results"]] == ["failed", "failed", "refused"]


def test_a_full_buffer_refuses_a_request_as_a_whole(door: Door) -> None:
    first = door.post([{**EVENT, "id": f"r-{n}"} for n in range(15)])
    eventually(lambda: len(door.producers[0].held) == 15, 60)
    full = door.post([{**EVENT, "id": f"s-{n}"} for n in range(4)]).result(60)
    assert (full.status_code, full.headers["retry-after"], full.json()["code"]) == (503, "2", "BUFFER_FULL")
    assert len(door.producers[0].held) == 15
    door.producers[0].report()
    assert first.result(60).status_code == 200
    never = door.post([{**EVENT, "id": f"s-{n}"} for n in range(19)]).result(60)
    assert (never.status_code, never.json()["code"]) == (413, "TOO_LARGE")
    assert door.confirmed([{**EVENT, "id": f"s-{n}"} for n in range(4)], 4).status_code == 200


def test_while_kafka_has_trouble_it_is_asked_first(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def away(_: Reachable) -> None:
        asked.append(1)
        if len(asked) < 3:
            raise KafkaUnavailable.of("Kafka does not answer", "refused")

    monkeypatch.setattr(Reachable, "check", away)
    door.producers[0].error_cb(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    for _ in range(2):
        answer = door.post(EVENT).result(60)
        assert (answer.status_code, answer.json()["code"]) == (503, "KAFKA_UNAVAILABLE")
        assert "nothing was taken" in answer.json()["detail"]
    assert door.confirmed(EVENT, 1).status_code == 200
    assert door.confirmed({**EVENT, "id": "r-2"}, 1).status_code == 200  # a delivery has ended the trouble
    assert len(asked) == 3


def test_a_large_body_is_read_beside_the_event_loop(door: Door) -> None:
    events = [{**EVENT, "id": f"r-{n}", "metadata": {"a": "x" * 15_000}} for n in range(10)]
    answer = door.confirmed(events, 10)
    assert (answer.status_code, answer.json()["accepted"]) == (200, 10)


def test_lago_and_openmeter_share_a_path(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterfold_service.ingest.known_metrics._all", lambda _: {})
    monkeypatch.setattr("meterfold_sink.pool.ClientPool.client", _NoClient)
    lago = {"transaction_id": "t-1", "external_subscription_id": "sub-1", "code": "storage", "properties": {"value": 2}}
    path = "/api/v1/events"
    one = door.confirmed({"event": lago}, 1, path=path)
    assert (one.status_code, one.json()["event"]["transaction_id"]) == (200, "t-1")
    many = door.confirmed({"events": [lago, {**lago, "transaction_id": "t-2"}]}, 2, path=f"{path}/batch")
    assert (many.status_code, len(many.json()["events"])) == (200, 2)
    wrong = door.post({"event": {**lago, "code": None}}, path).result(60)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "validation_errors")
    cloud = {"specversion": "1.0", "id": "e-1", "source": "s", "type": "t", "subject": "ada", "data": {"a": 1}}
    answer = door.confirmed(cloud, 1, path=path)
    assert (answer.status_code, answer.content) == (204, b"")
    some = door.confirmed([cloud, {**cloud, "id": ""}], 1, path=path)
    assert (some.status_code, some.json()["errors"][0]["pointer"]) == (400, "/1")
    failed = door.confirmed(cloud, 1, KafkaError(KafkaError._MSG_TIMED_OUT), path=path)
    assert failed.status_code == 503
    assert {(event.metric_key, event.subject_type) for event in door.sent} == {
        ("storage", "subscription"),
        ("openmeter.events", "subject"),
    }


class _NoClient:
    """What the pool gives where ClickHouse is not asked."""

    def __init__(self, *_: Any) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


ROUTES = (
    ("POST", "/v1/events", Scope.INGEST),
    ("POST", "/api/v1/events", Scope.INGEST),
    ("POST", "/api/v1/events/batch", Scope.INGEST),
    ("GET", "/api/v1/customers/a/current_usage?external_subscription_id=b", Scope.READ),
    ("POST", "/api/v1/meters", Scope.MANAGE),
    ("GET", "/api/v1/meters", Scope.READ),
    ("GET", "/api/v1/meters/a", Scope.READ),
    ("PUT", "/api/v1/meters/a", Scope.MANAGE),
    ("DELETE", "/api/v1/meters/a", Scope.MANAGE),
    ("GET", "/api/v1/meters/a/query", Scope.READ),
    ("POST", "/api/v1/meters/a/query", Scope.READ),
    ("GET", "/api/v1/meters/a/subjects", Scope.READ),
    ("GET", "/api/v1/meters/a/group-by/b/values", Scope.READ),
    ("GET", "/api/v1/events", Scope.READ),
    ("GET", "/api/v1/subjects", Scope.READ),
    ("GET", "/api/v1/subjects/a", Scope.READ),
)


def test_the_table_has_every_route() -> None:
    def plain(path: str) -> str:
        return re.sub(r"\{[^}]+\}", "*", path)

    mine = {name for name in operations() if name.partition(" ")[2].startswith(("/v1/events", "/api/v1"))}
    known = {f"{method} {path.partition('?')[0]}" for method, path, _ in ROUTES}
    for name in mine:
        pattern = re.escape(plain(name)).replace(r"\*", "[^/]+")
        assert [one for one in known if re.fullmatch(pattern, one)], name
    assert len(mine) == len(known)


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_each_route_refuses_a_token_without_its_scope_and_one_of_a_subject(
    door: Door, method: str, path: str, scope: Scope
) -> None:
    app: Any = door.client.app
    service = app.state.service
    content = b'{"events": [{}]}' if method in ("POST", "PUT") else None

    def asked(principal: Principal) -> Response:
        app.dependency_overrides[caller] = lambda: Caller(service, principal)
        return door.client.request(method, path, content=content, headers=JSON)

    others = frozenset(Scope) - {scope, Scope.ADMIN} - ({Scope.MANAGE} if scope is Scope.READ else set())
    refused = asked(Principal("other", others, "acme"))
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    service.availability.away.clear()
    service.availability.check = lambda: None
    page = asked(Principal("page", frozenset({scope}), "acme", ("user", "ada")))
    assert (page.status_code, page.json()["code"]) == (403, "FORBIDDEN"), page.text
    app.dependency_overrides.clear()
    nobody = door.client.request(method, path, content=content, headers=JSON)
    assert (nobody.status_code, nobody.json()["code"]) == (401, "INVALID_TOKEN")
