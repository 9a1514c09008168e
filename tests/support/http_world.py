"""Two organizations, red and blue, with everything that an installation stores about them. Every text of one has its
name in it, so that a response shows by its text alone whose data it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from fastapi.testclient import TestClient
from pydantic import SecretStr

from meterfold_processor.backoff import Troubles
from meterfold_processor.checker.mirror_rows import TABLES, row_of
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.periods import micros
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.http.app import create_app
from meterfold_service.http.availability import Availability
from meterfold_service.http.context import HttpService
from meterfold_service.http.settings import HttpSettings
from meterfold_service.tokens.authentication import Authentication
from meterfold_sink.client import Client
from meterfold_sink.notification_tries import EndpointRow, TryRow, write_endpoint, write_tries
from meterfold_sink.proofs import ProofRow, write_proof
from meterfold_sink.writers import Writer
from support.grants import limit
from support.http_server import KEY
from support.sink.database import insert, store
from support.sink.rows import DECIMAL, TIME, Record

ORGS = ("red", "blue")
NOW = datetime.now(UTC).replace(microsecond=0)
MONTH = NOW.replace(day=1, hour=0, minute=0, second=0)
END = (MONTH + timedelta(days=32)).replace(day=1)
PER_ORG = 5


@dataclass
class Clock:
    """A monotonic clock that a test moves."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class World:
    """The application over one installation, and its tokens by name."""

    client: TestClient
    metering: Metering
    clock: Clock
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, name: str, *scopes: str, **values: Any) -> str:
        self.tokens[name] = self.metering.tokens.create(name=name, scopes=scopes, **values).text
        return self.tokens[name]

    def get(self, path: str, token: str, **params: Any) -> Any:
        return self.client.get(path, params=params, headers=bearer(token))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def patient(service: HttpService) -> HttpService:
    """The service, which believes that ClickHouse answers: on a busy machine a ping may be late. What a late one does
    is tested in test_http_serve.py."""
    service.availability.close()
    service.availability = Availability(lambda: None, lambda: None, Troubles())
    return service


@contextmanager
def world(kafka: KafkaSettings, clickhouse: ClickHouseSettings, **settings: Any) -> Iterator[World]:
    clock = Clock()
    metering = limit(
        Metering(
            kafka=kafka,
            clickhouse=clickhouse,
            sources=Sources({"HTTP_TOKEN_KEY": KEY}, {}, None),
            wait_seconds=0.2,
            call_seconds=5,
        ),
        "meterfold_serve",
    )
    authentication = Authentication(metering.tokens, lambda: datetime.now(UTC), clock)
    service = patient(HttpService(metering, authentication, HttpSettings(token_key=SecretStr(KEY), **settings)))
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield World(client, metering, clock)


def fill(client: Client) -> None:
    """Both organizations. `every.metric` and `every` are a metric and a threshold of every organization."""
    store(
        client,
        [
            Record(
                number * len(ORGS) + place,
                MONTH + timedelta(seconds=number),
                number + 1,
                f"{org}-ada" if number % 2 else f"{org}-bob",
                "every.metric" if number % 2 else f"{org}.metric",
                org,
                more={"metadata": f'{{"model":"{org}-model"}}', "source": f"{org}-source"},
            )
            for place, org in enumerate(ORGS)
            for number in range(PER_ORG)
        ],
    )
    for number, state in enumerate(("proven", "different", "running")):
        begun = micros(NOW) + number // 2
        write_proof(client, ProofRow(f"proof-{number}", micros(NOW), begun, "ada", state, 1, 1, "", "{}"))
    define(client, metric("every.metric", ""))
    define(client, threshold("every", None, "every.metric", notify_emails=("red-blue-operator@example.com",)))
    for org in ORGS:
        define(client, metric(f"{org}.metric", org))
        for number in range(PER_ORG):
            define(client, threshold(f"{org}-threshold-{number}", org, f"{org}.metric"))
            _alert(client, org, number)
            _rejected(client, org, number)
            _delivery(client, org, number)
        write_endpoint(
            Writer(client),
            EndpointRow(
                endpoint=f"https://{org}.example.com", state="failing", since=NOW, reason=f"{org} down", changed_at=NOW
            ),
        )


_OFFSETS = iter(range(1_000_000))


def metric(key: str, org_id: str, **more: Any) -> MetricDefinition:
    values: dict[str, Any] = {"id": f"m-{key}", "key": key, "name": f"{key} name", "unit": "call", "org_id": org_id}
    return MetricDefinition(**values, created_at=NOW, updated_at=NOW, **more)


def threshold(name: str, org_id: str | None, metric_key: str, **more: Any) -> UsageThreshold:
    values: dict[str, Any] = {"id": name, "name": name, "org_id": org_id, "metric_key": metric_key, "threshold": 2}
    return UsageThreshold(**values, period_type="monthly", created_at=NOW, updated_at=NOW, **more)


def define(client: Client, made: MetricDefinition | UsageThreshold) -> None:
    table = "metric_definitions" if isinstance(made, MetricDefinition) else "thresholds"
    row = row_of(table, made.message_key, made.to_bytes(), next(_OFFSETS))
    insert(client, table, pa.Table.from_pylist([row], schema=TABLES[table]))


def _alert(client: Client, org: str, number: int) -> None:
    row = {
        "event_id": f"{org}-alert-{number}-exceeded",
        "event_type": "threshold.exceeded",
        "occurred_at": NOW + timedelta(seconds=number // 2),
        "alert_id": f"{org}-alert-{number}",
        "threshold_id": "every",
        "org_id": org,
        "metric_key": "every.metric",
        "subject_type": "user",
        "subject_id": f"{org}-ada",
        "period_type": "monthly",
        "period_start": MONTH,
        "period_end": END,
        "level": "exceeded",
        "crossing": number + 1,
        "threshold": Decimal(2),
        "warn_threshold": Decimal("1.6"),
        "actual_value": Decimal(number + 2),
        "percentage_used": Decimal(100 + number // 2),
        "action": "block",
    }
    types: dict[str, pa.DataType] = {
        **dict.fromkeys(("occurred_at", "period_start", "period_end"), TIME),
        **dict.fromkeys(("threshold", "warn_threshold", "actual_value", "percentage_used"), DECIMAL),
        "crossing": pa.int64(),
    }
    schema = pa.schema([pa.field(name, types.get(name, pa.string())) for name in row])
    insert(client, "threshold_events", pa.Table.from_pylist([row], schema=schema))


def _rejected(client: Client, org: str, number: int) -> None:
    row = {
        "partition": ORGS.index(org),
        "offset": 100 + number,
        "received_at": NOW - timedelta(seconds=number // 2),
        "org_id": org,
        "metric_key": f"{org}.metric",
        "subject_type": "user",
        "subject_id": f"{org}-ada",
        "reason": "too_old",
        "detail": f"{org} is too old",
        "key": f"{org}-key".encode(),
        "value": f'{{"org_id":"{org}"'.encode(),
    }
    types: dict[str, pa.DataType] = {
        "partition": pa.int32(),
        "offset": pa.int64(),
        "received_at": TIME,
        "key": pa.binary(),
        "value": pa.binary(),
    }
    schema = pa.schema([pa.field(name, types.get(name, pa.string())) for name in row])
    insert(client, "usage_rejected", pa.Table.from_pylist([row], schema=schema))


def _delivery(client: Client, org: str, number: int) -> None:
    at = NOW + timedelta(seconds=number // 2)
    one = TryRow(
        occurred_at=at,
        event_id=f"{org}-event-{number}",
        channel="webhook",
        target=f"https://{org}.example.com",
        due_at=at,
        give_up_at=at,
        event_type="threshold.exceeded",
        topic="t",
        partition=0,
        org_id=org,
        threshold_id=f"{org}-threshold-{number}",
        alert_id=f"{org}-alert-{number}",
    )
    # What a threshold of every organization sends goes to the operator.
    operators = TryRow(
        occurred_at=at,
        event_id=f"{org}-every-{number}",
        channel="email",
        target="red-blue-operator@example.com",
        due_at=at,
        give_up_at=at,
        event_type="threshold.exceeded",
        topic="t",
        partition=0,
        org_id=org,
        threshold_id="every",
    )
    write_tries(Writer(client), [one, operators])
