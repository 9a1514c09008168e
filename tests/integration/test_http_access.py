"""Every route of the HTTP API with every kind of token, and every list with its pages, on the real ClickHouse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from meterfold_local.stack import LocalStack
from meterfold_schemas.topics import METRIC_DEFINED, THRESHOLD_DEFINED, THRESHOLD_STATE
from meterfold_service.access.principal import Scope
from meterfold_service.http.app import operations
from meterfold_service.tokens.authentication import FRESH_SECONDS
from support.altered import altered
from support.http_world import END, MONTH, PER_ORG, World, bearer, fill, world
from support.kafka import create_topics, delete_topics
from support.sink.database import database
from support.waiting import eventually

READ, MANAGE, ADMIN = Scope.READ, Scope.MANAGE, Scope.ADMIN
START = MONTH.isoformat().replace("+00:00", "Z")
NEXT = END.isoformat().replace("+00:00", "Z")
USAGE = {"start": START}


@dataclass(frozen=True)
class Case:
    """One route. `path` has {org}, the organization that is asked about. `installation`: refused to a token of one
    organization. `subject`: a token of a subject may call it. `other`: what the other organization's id is answered
    with; None where the path names nothing of an organization. `pages`: it is a list. `log`: it reads definitions from
    Kafka, which has none here."""

    path: str
    scope: Scope = READ
    params: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    installation: bool = False
    subject: bool = False
    other: int | None = None
    pages: bool = False
    sorts: tuple[str, ...] = ()
    log: bool = False


CASES: dict[str, Case] = {
    "POST /v1/metrics": Case("/v1/metrics", MANAGE, body={}),
    "GET /v1/metrics": Case(
        "/v1/metrics", pages=True, sorts=("display_order", "key", "name", "created_at", "-updated_at")
    ),
    "GET /v1/metrics/{key}": Case("/v1/metrics/{org}.metric", other=404),
    "PATCH /v1/metrics/{key}": Case("/v1/metrics/{org}.metric", MANAGE, body={"unit": ""}),
    "DELETE /v1/metrics/{key}": Case("/v1/metrics/{org}.metric", MANAGE, other=404),
    "POST /v1/metrics/preview-define": Case("/v1/metrics/preview-define", MANAGE, body={}),
    "POST /v1/metrics/{key}/preview-update": Case("/v1/metrics/{org}.metric/preview-update", MANAGE, body={"unit": ""}),
    "GET /v1/metrics/{key}/preview-delete": Case(
        "/v1/metrics/{org}.metric/preview-delete", MANAGE, other=404, log=True
    ),
    "GET /v1/subjects": Case("/v1/subjects"),
    "GET /v1/subjects/busiest": Case("/v1/subjects/busiest", installation=True),
    "GET /v1/subjects/{subject_type}/{subject_id:path}": Case("/v1/subjects/user/{org}-ada", subject=True),
    "GET /v1/usage/{metric_key}/records": Case(
        "/v1/usage/every.metric/records",
        params={**USAGE, "subject_type": "user", "subject_id": "{org}-ada"},
        subject=True,
        pages=True,
    ),
    "GET /v1/usage/{metric_key}/summary": Case(
        "/v1/usage/every.metric/summary",
        params={**USAGE, "period": "hourly", "group_by": "model", "subject_type": "user", "subject_id": "{org}-ada"},
        subject=True,
        pages=True,
    ),
    "GET /v1/limits/{subject_type}/{subject_id:path}": Case("/v1/limits/user/{org}-ada", subject=True),
    "GET /v1/exports/{what}": Case("/v1/exports/records"),
    "POST /v1/thresholds": Case("/v1/thresholds", MANAGE, body={}),
    "GET /v1/thresholds": Case(
        "/v1/thresholds", pages=True, sorts=("scope", "-scope", "name", "created_at", "-updated_at")
    ),
    "GET /v1/thresholds/{threshold_id}": Case("/v1/thresholds/{org}-threshold-1", other=404),
    "GET /v1/thresholds/{threshold_id}/watched": Case("/v1/thresholds/{org}-threshold-1/watched", other=404),
    "PATCH /v1/thresholds/{threshold_id}": Case("/v1/thresholds/{org}-threshold-1", MANAGE, body={"name": ""}),
    "DELETE /v1/thresholds/{threshold_id}": Case("/v1/thresholds/{org}-threshold-1", MANAGE, other=404),
    "POST /v1/thresholds/preview-create": Case("/v1/thresholds/preview-create", MANAGE, body={}),
    "GET /v1/thresholds/of/{subject_type}/{subject_id:path}": Case("/v1/thresholds/of/user/{org}-ada", subject=True),
    "GET /v1/thresholds/nearest": Case("/v1/thresholds/nearest"),
    "POST /v1/thresholds/{threshold_id}/preview-update": Case(
        "/v1/thresholds/{org}-threshold-1/preview-update", MANAGE, body={"name": ""}
    ),
    "GET /v1/thresholds/{threshold_id}/preview-delete": Case(
        "/v1/thresholds/{org}-threshold-1/preview-delete", MANAGE, other=404, log=True
    ),
    "GET /v1/alerts": Case(
        "/v1/alerts", pages=True, sorts=("triggered_at", "-triggered_at", "percentage_used", "-percentage_used")
    ),
    "GET /v1/alerts/{alert_id}": Case("/v1/alerts/{org}-alert-1", other=404),
    "POST /v1/alerts/{alert_id}/acknowledge": Case("/v1/alerts/{org}-alert-1/acknowledge", MANAGE, other=404),
    "POST /v1/alerts/{alert_id}/resolve": Case("/v1/alerts/{org}-alert-1/resolve", MANAGE, other=404),
    "POST /v1/periods/close": Case("/v1/periods/close", MANAGE, body={"start": START}, installation=True),
    "POST /v1/periods/close-many": Case(
        "/v1/periods/close-many", MANAGE, body={"start": START, "end": NEXT}, installation=True
    ),
    "POST /v1/periods/close-due": Case(
        "/v1/periods/close-due", MANAGE, body={"period": ["monthly"]}, installation=True
    ),
    "GET /v1/periods/{period}/{start}": Case(f"/v1/periods/monthly/{START}", installation=True),
    "GET /v1/periods": Case("/v1/periods", installation=True, pages=True),
    "GET /v1/periods/due": Case("/v1/periods/due", installation=True, pages=True),
    "GET /v1/periods/adjustments": Case("/v1/periods/adjustments", pages=True),
    "GET /v1/rejected": Case("/v1/rejected", pages=True, sorts=("received_at", "-received_at")),
    "GET /v1/rejected/count": Case("/v1/rejected/count"),
    "GET /v1/rejected/{partition}/{offset}": Case("/v1/rejected/{number}/101", other=404),
    "POST /v1/rejected/redrive": Case("/v1/rejected/redrive", MANAGE, body={}),
    "POST /v1/rejected/redrive-all": Case("/v1/rejected/redrive-all", MANAGE, body={"limit": 0}),
    "POST /v1/proofs": Case("/v1/proofs", MANAGE, body={}, installation=True),
    "GET /v1/proofs": Case("/v1/proofs", installation=True, pages=True),
    "GET /v1/proofs/{proof_id}": Case("/v1/proofs/proof-1", installation=True),
    "GET /v1/notifications": Case("/v1/notifications", pages=True, sorts=("occurred_at", "-occurred_at")),
    "GET /v1/notifications/endpoints": Case("/v1/notifications/endpoints", installation=True, pages=True),
    "POST /v1/notifications/endpoints/enable": Case(
        "/v1/notifications/endpoints/enable", MANAGE, body={"endpoint": "https://none.example.com"}, installation=True
    ),
    "POST /v1/notifications/redeliver": Case("/v1/notifications/redeliver", MANAGE, body={"states": 1}),
    "POST /v1/notifications/test": Case(
        "/v1/notifications/test", MANAGE, body={"channel": "email", "target": "a@example.com"}, installation=True
    ),
    "GET /v1/notifications/{event_id}/tries": Case("/v1/notifications/{org}-event-1/tries", pages=True),
    "POST /v1/tokens": Case("/v1/tokens", ADMIN, body={}),
    "GET /v1/tokens": Case("/v1/tokens", ADMIN, pages=True, sorts=("created_at", "-created_at", "name", "-name")),
    "POST /v1/tokens/{token_id}/revoke": Case("/v1/tokens/{org_token}/revoke", ADMIN, other=404),
    "GET /v1/settings": Case("/v1/settings", installation=True),
    "GET /v1/status": Case("/v1/status", installation=True),
    "GET /v1/status/totals": Case("/v1/status/totals", installation=True),
}
"""Method and path -> how it is called. A body is one that is refused as invalid, where the token of an organization may
call the route: nothing changes, and it shows that the token was accepted."""
ANYBODY: set[str] = set()
"""Routes without a token."""
ELSEWHERE: tuple[str, ...] = ("/v1/events", "/api/v1", "/v1/events/")
"""Paths whose tokens are tested in a file of their own."""


@pytest.fixture(scope="module")
def made(stack: LocalStack) -> Iterator[World]:
    kafka = stack.kafka_settings("http-access.")
    create_topics(kafka, METRIC_DEFINED, THRESHOLD_DEFINED, THRESHOLD_STATE, **{"cleanup.policy": "compact"})
    try:
        with database(stack) as client, world(kafka, stack.clickhouse_settings(client.database)) as found:
            fill(client)
            for org in ("red", "blue"):
                found.token(f"{org}-read", "read", org_id=org)
                found.token(f"{org}-manage", "manage", org_id=org)
                found.token(f"{org}-admin", "admin", org_id=org)
                found.token(f"{org}-ingest", "ingest", org_id=org)
                found.token(f"{org}-old", "admin", org_id=org, expires_in=timedelta(microseconds=1))
                found.token(f"{org}-revoked", "admin", org_id=org)
                found.metering.tokens.revoke(found.tokens[f"{org}-revoked"].split("_")[1])
                found.token(
                    f"{org}-subject", "read", org_id=org, subject=("user", f"{org}-ada"), expires_in=timedelta(days=1)
                )
            found.token("all", "admin")
            found.token("all-read", "read")
            eventually(lambda: found.get("/v1/limits/user/ada", found.tokens["all"]).status_code == 200, 60)
            yield found
    finally:
        delete_topics(kafka)


def call(made: World, name: str, case: Case, org: str, token: str | None, **more: Any) -> Any:
    own = made.tokens[f"{org}-ingest"].split("_")[1]
    names = {"org": org, "number": ("red", "blue").index(org), "org_token": own}
    params = {key: value.format(**names) if isinstance(value, str) else value for key, value in case.params.items()}
    headers = {} if token is None else bearer(token)
    return made.client.request(
        name.partition(" ")[0],
        case.path.format(**names),
        params={**params, **more},
        json=case.body,
        headers=headers,
    )


def test_every_route_is_in_the_table() -> None:
    found = {name for name in operations() if not name.partition(" ")[2].startswith(ELSEWHERE)}
    assert found == CASES.keys() | ANYBODY
    assert {name: scope for name, scope in operations().items() if name in CASES} == {
        name: case.scope for name, case in CASES.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_a_route_with_every_kind_of_token(made: World, name: str) -> None:
    case, tokens = CASES[name], made.tokens
    wrong = {
        "no token": None,
        "not a token": "secret",
        "wrong checksum": altered(tokens["red-admin"]),
        "unknown": "mf_000000000000_" + "0" * 32 + "2b4VIX",
        "expired": tokens["red-old"],
        "revoked": tokens["red-revoked"],
    }
    for why, token in wrong.items():
        answer = call(made, name, case, "red", token)
        assert (answer.status_code, answer.json()["code"]) == (401, "INVALID_TOKEN"), why
    lacking = {READ: "red-ingest", MANAGE: "red-read", ADMIN: "red-manage"}[case.scope]
    assert call(made, name, case, "red", tokens[lacking]).status_code == 403
    of_subject = call(made, name, case, "red", tokens["red-subject"])
    assert of_subject.status_code == (200 if case.subject else 403)
    right = call(made, name, case, "red", tokens[f"red-{case.scope}"])
    assert (right.status_code == 403) is case.installation
    if not case.installation:
        # A change goes to Kafka, which knows nothing of what was stored in ClickHouse only.
        assert right.status_code in ((422,) if case.body is not None else (200, 404, 503)), right.text
    everything = call(made, name, case, "red", tokens["all"])
    invalid = case.body is not None and not case.installation
    assert everything.status_code in ((422,) if invalid else (200, 202, 404, 409, 503)), everything.text


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if name.startswith("GET")])
def test_a_token_of_one_organization_gets_nothing_of_another(made: World, name: str) -> None:
    case = CASES[name]
    for token in ("red-admin", *(["red-subject"] if case.subject else [])):
        own = call(made, name, case, "red", made.tokens[token])
        assert "blue" not in own.text
        if not case.installation:
            assert own.status_code == (404 if case.log else 200)
            asked = call(made, name, case, "red", made.tokens[token], org_id="blue")
            assert asked.status_code in (403, 422), "another organization cannot be asked for"
        of_other = call(made, name, case, "blue", made.tokens[token])
        if case.other is not None:
            # Exactly as an id that does not exist.
            missing = made.client.get(
                case.path.format(org="none", number=9, org_token="x" * 12), headers=bearer(made.tokens[token])
            )
            assert (of_other.status_code, of_other.json()["code"]) == (case.other, missing.json()["code"])
            assert _without_names(of_other.text) == _without_names(missing.text)
        elif case.subject:
            # The id that was asked for may come back.
            assert "blue" not in of_other.text.replace("blue-ada", "") or of_other.status_code == 403
    if case.pages and "{" not in name and not case.installation:
        both = call(made, name, case, "red", made.tokens["all"]).json()
        assert "blue" in str(both) or not both["data"], "the markers are there for who may see them"


def _without_names(text: str) -> str:
    for word in ("blue", "none", " 9,", " 1,"):
        text = text.replace(word, "*")
    return text


CHANGES = {
    "PATCH /v1/thresholds/{threshold_id}": {"name": "other"},
    "DELETE /v1/thresholds/{threshold_id}": None,
    "POST /v1/alerts/{alert_id}/acknowledge": None,
    "POST /v1/alerts/{alert_id}/resolve": None,
    "POST /v1/tokens/{token_id}/revoke": None,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_of_another_organization_cannot_be_changed(made: World, name: str) -> None:
    case = CASES[name]
    found = made.client.request(
        name.partition(" ")[0],
        case.path.format(org="blue", org_token=made.tokens["blue-ingest"].split("_")[1]),
        json=CHANGES[name],
        headers=bearer(made.tokens["red-admin"]),
    )
    assert found.status_code == 404, found.text


def test_what_is_of_every_organization_is_seen_and_not_changed_by_one(made: World) -> None:
    red = made.tokens["red-admin"]
    every = made.get("/v1/thresholds/every", red).json()
    assert (every["notify_emails"], every["org_id"]) == ([], None)
    assert made.get("/v1/thresholds/every", made.tokens["all"]).json()["notify_emails"]
    refused = made.client.patch("/v1/thresholds/every", json={"threshold": "9"}, headers=bearer(red))
    assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")
    watched = made.get("/v1/thresholds/every/watched", red).json()
    everybody = made.get("/v1/thresholds/every/watched", made.tokens["all"]).json()
    assert (watched["watched"], everybody["watched"]) == (1, 2)
    (listed,) = [one for one in made.get("/v1/thresholds", red).json()["data"] if one["threshold"]["id"] == "every"]
    assert listed["standing"]["exceeded"] == 1
    assert [one["org_id"] for one in listed["standing"]["windows"]] == ["red"]


def test_a_customer_sees_what_judges_the_subject_and_how_much_is_used(made: World) -> None:
    found = made.get("/v1/thresholds/of/user/red-ada", made.tokens["red-subject"]).json()["data"]
    assert [one["threshold_id"] for one in found[:1]] == ["every"]
    windows = [(one["window"]["level"], one["window"]["value"], one["window"]["percentage_used"]) for one in found]
    assert windows == [("exceeded", "6", "300"), *[("none", None, None)] * PER_ORG]
    assert {one["period_type"] for one in found} == {"monthly"}


def test_a_delivery_names_the_metric_and_the_subject_of_its_alert(made: World) -> None:
    rows = made.get("/v1/notifications", made.tokens["all"], limit=1000).json()["data"]
    about = {one["alert_id"]: (one["metric_key"], one["subject_type"], one["subject_id"]) for one in rows}
    expected = {
        f"{org}-alert-{n}": ("every.metric", "user", f"{org}-ada") for org in ("red", "blue") for n in range(PER_ORG)
    }
    assert about == {**expected, "": (None, None, None)}


def test_an_administrator_of_an_organization_makes_tokens_of_it_alone(made: World) -> None:
    red = bearer(made.tokens["red-admin"])
    created = made.client.post("/v1/tokens", json={"name": "red-new", "scopes": ["manage"]}, headers=red)
    assert (created.status_code, created.json()["org_id"]) == (201, "red")
    made.tokens["red-new"] = created.json()["token"]
    assert made.get("/v1/alerts", made.tokens["red-new"]).json()["total"] == PER_ORG
    for body in ({"org_id": "blue"}, {"org_id": ""}):
        refused = made.client.post("/v1/tokens", json={"name": "x", "scopes": ["read"], **body}, headers=red)
        assert refused.status_code == 403, body
    revoked = made.client.post(f"/v1/tokens/{created.json()['id']}/revoke", headers=red)
    assert (revoked.status_code, revoked.json()["revoked_at"] is None) == (200, False)
    made.clock.now += FRESH_SECONDS
    assert made.get("/v1/alerts", made.tokens["red-new"]).status_code == 401


@pytest.mark.parametrize(
    ("name", "sort"),
    [(name, sort) for name, case in CASES.items() if case.pages for sort in (None, *case.sorts)],
)
def test_a_list_is_the_same_in_pages_of_any_size(made: World, name: str, sort: str | None) -> None:
    case = CASES[name]
    token, more = made.tokens["all" if case.installation else "red-admin"], {} if sort is None else {"sort": sort}
    whole = call(made, name, case, "red", token, **more).json()
    assert {"data", "next_cursor", "total"} <= whole.keys()
    assert (whole["next_cursor"], whole["total"]) == (None, len(whole["data"]))
    for limit in (1, 2):
        rows: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            page = call(made, name, case, "red", token, limit=limit, **cursor, **more).json()
            assert (page["total"], len(page["data"]) <= limit) == (whole["total"], True)
            rows += page["data"]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
            assert len(rows) < whole["total"]
        assert rows == whole["data"]
    for wrong in ({"limit": 0}, {"limit": 10_001}, {"cursor": "x"}, {"offset": 1}, {"sort": "password"}):
        refused = call(made, name, case, "red", token, **wrong)
        assert refused.status_code == 422, wrong
    if case.sorts:
        assert len(whole["data"]) > 1, "a list of one row is in any order"
