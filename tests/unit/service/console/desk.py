"""The console on an installation that is made up: every text in it is markup."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace as Made
from typing import Any

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.testclient import TestClient

from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.vocabulary import Action, AlertStatus, Level
from meterfold_service.access.errors import InvalidToken
from meterfold_service.access.principal import Principal, Scope
from meterfold_service.alerts.operations import UsageAlert
from meterfold_service.console.app import ROUTES
from meterfold_service.console.desk import Desk
from meterfold_service.http.settings import HttpSettings
from meterfold_service.notify.operations import Delivery, DeliveryPage, DeliveryTry, WebhookEndpoint
from meterfold_service.pages import Page
from meterfold_service.periods.results import Adjustment, DuePeriods, PeriodClosing
from meterfold_service.proofs.operations import Proof
from meterfold_service.rejected.decoding import DecodedEvent
from meterfold_service.rejected.results import Position, RejectedMessage
from meterfold_service.status.operations import FoldTotals
from meterfold_service.thresholds.changes import ThresholdChange
from meterfold_service.thresholds.operations import ListedThreshold
from meterfold_service.tokens.operations import Token
from meterfold_service.usage.results import SubjectUsage, UsagePage, UsageRecord, UsageSummary
from meterfold_sink.busiest import BusySubject
from meterfold_sink.subjects import KnownSubject
from meterfold_sink.threshold_levels import JudgedWindow, Standing, WindowNow
from meterfold_sink.threshold_preview import Reached

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;{{7*7}}"
KEY = SecretStr("k" * 32)
ADMIN = Principal(MARKUP, frozenset({Scope.ADMIN}), token_id="admin-token")
READER = Principal("reader", frozenset({Scope.READ}), org_id="acme", token_id="reader-token")
CUSTOMER = Principal("page", frozenset({Scope.READ}), "acme", ("user", "ada"), "customer-token")
PEOPLE = {"mf_admin": ADMIN, "mf_reader": READER, "mf_customer": CUSTOMER}

METRIC = MetricDefinition(
    id="m", key="api.calls", name=MARKUP, unit=MARKUP, description=MARKUP, category=MARKUP, dimensions=(MARKUP,),
    created_at=NOW, updated_at=NOW,
)  # fmt: skip
THRESHOLD = UsageThreshold(
    id="t", metric_key="api.calls", name=MARKUP, threshold=10, warn_threshold=8, period_type="monthly",
    subject_type=MARKUP, subject_id=MARKUP, created_at=NOW, updated_at=NOW,
)  # fmt: skip
ALERT = UsageAlert(
    "a" + MARKUP, "t", MARKUP, "api.calls", MARKUP, MARKUP, "monthly", NOW, None, Level.EXCEEDED, 0, Decimal(10),
    Decimal(12), Decimal(120), Action.BLOCK, AlertStatus.ACKNOWLEDGED, MARKUP, NOW, MARKUP, None, NOW,
)  # fmt: skip
REJECTED = RejectedMessage(
    Position(0, 5), NOW, "invalid", MARKUP, MARKUP, MARKUP, MARKUP, MARKUP, MARKUP.encode(), b"\xff" + MARKUP.encode(),
    DecodedEvent("json", {"id": MARKUP, MARKUP: MARKUP}, {MARKUP: MARKUP}, MARKUP), None,
)  # fmt: skip
SUMMARY = UsageSummary(
    MARKUP, "api.calls", MARKUP, MARKUP, "daily", NOW.replace(hour=0), NOW.replace(hour=0) + timedelta(days=1),
    Decimal("12345.5"), 3, Decimal(1), Decimal(1), Decimal(1), Decimal(1), Decimal(1), False, NOW, {MARKUP: MARKUP},
)  # fmt: skip
RECORD = UsageRecord(
    MARKUP, MARKUP, "api.calls", MARKUP, MARKUP, Decimal(1), MARKUP, MARKUP, MARKUP, MARKUP, NOW, NOW, 3, 1042
)
WINDOW = WindowNow(MARKUP, MARKUP, MARKUP, NOW, None, "exceeded", Decimal(12), Decimal(120), NOW)
JUDGED = JudgedWindow("t", MARKUP, "api.calls", "monthly", Decimal(10), "block", WINDOW)
TOTALS = FoldTotals(NOW, 2, 107, 100, 4, 2, NOW, NOW)
DELIVERY = Delivery(
    NOW, MARKUP, "threshold.exceeded", "webhook", MARKUP, MARKUP, "t", "a", MARKUP, MARKUP, MARKUP, "failed", 1, 3, NOW,
    500, MARKUP, NOW,
)  # fmt: skip
TRY = DeliveryTry(NOW, MARKUP, "x", "webhook", MARKUP, 1, 1, "failed", 500, MARKUP, NOW, NOW, NOW)
CLOSING = PeriodClosing("daily", NOW, NOW, "", 1, "c" * 64, 3, 4, {0: 5}, NOW)
ADJUSTMENT = Adjustment(
    MARKUP, "api.calls", MARKUP, MARKUP, "daily", NOW, NOW, NOW, None, Decimal(1), Decimal(2), Decimal(1), 1, 2,
    Decimal(1), Decimal(2), 0, (7, 8),
)  # fmt: skip
FINDINGS = {
    "seconds": 1, "counted": 1, "duplicates": 1, "rejected": 1, "windows": 1, "records": 1, "compared": 1, "states": 1,
    "events": 1, "aggregates": 1, "closings": 1, "findings": [MARKUP], "findings_total": 1, "unproven": [MARKUP],
}  # fmt: skip
PROOF = Proof("p", NOW, NOW, MARKUP, "different", 1, 1, MARKUP, FINDINGS)
TOKEN = Token("x", MARKUP, (Scope.READ,), MARKUP, (MARKUP, MARKUP), NOW, NOW + timedelta(days=1), None, NOW)
LISTED = ListedThreshold(THRESHOLD, Standing((WINDOW,), 1, 0), MARKUP, (MARKUP,))


def answers(value: Any) -> Callable[..., Any]:
    return lambda *args, **values: value


def page_of(*rows: Any) -> Callable[..., Any]:
    return answers(Page(len(rows), rows))


def metering() -> Any:
    """Every operation that a page calls, and what it answers."""
    metrics = Page(1, (METRIC,))
    undefined = Made(key=MARKUP, records=1, guess=MARKUP)
    return Made(
        clients=None,
        metrics=Made(
            list=answers(Made(total=1, rows=metrics.rows, undefined=(undefined,))),
            definitions=answers([METRIC]),
            get=answers(METRIC),
            preview_delete=answers(
                Made(
                    fields={}, usage=Made(windows=1, subjects=2), example=None, after=None, resting=(THRESHOLD,),
                    judging=(THRESHOLD,),
                )
            ),
        ),
        usage=Made(
            get=answers(UsagePage((RECORD,), 1, Decimal(1), MARKUP)),
            get_summary=page_of(SUMMARY),
            busiest=answers((BusySubject(MARKUP, "api.calls", MARKUP, MARKUP, 3, Decimal(7)),)),
            subjects=answers([KnownSubject(MARKUP, MARKUP, MARKUP, 1, NOW)]),
            metrics_of=answers([SubjectUsage("api.calls", METRIC, 3, NOW, 2, Decimal(7))]),
        ),
        thresholds=Made(
            list=page_of(LISTED),
            get=answers(THRESHOLD),
            of_subject=answers((JUDGED,)),
            preview_create=answers(ThresholdChange(None, THRESHOLD, Reached(), Reached(3, 2, 1))),
            preview_update=answers(ThresholdChange(THRESHOLD, THRESHOLD, Reached(3, 2, 1), Reached(3, 0, 1))),
            preview_delete=answers(ThresholdChange(THRESHOLD, None, Reached(3, 2, 1), Reached())),
        ),
        alerts=Made(list=page_of(ALERT), get=answers(ALERT)),
        periods=Made(
            list=page_of(CLOSING), due=answers(DuePeriods((), 0, 0)), adjustments=page_of(ADJUSTMENT)
        ),
        rejected=Made(list=page_of(REJECTED), get=answers(REJECTED), count=answers({"invalid": 1})),
        notifications=Made(
            list=answers(DeliveryPage((DELIVERY,), MARKUP, 1)),
            tries=answers((TRY,)),
            endpoints=answers((WebhookEndpoint(MARKUP, "failing", NOW, MARKUP, NOW),)),
        ),
        tokens=Made(list=page_of(TOKEN), key=lambda: KEY),
        proofs=Made(list=answers([PROOF, PROOF]), get=answers(PROOF)),
        status=Made(totals=answers(TOTALS)),
    )  # fmt: skip


@dataclass
class Known:
    """Tokens, and those that were revoked."""

    revoked: set[str] = field(default_factory=set)

    def principal(self, text: str) -> Principal:
        if text not in PEOPLE:
            raise InvalidToken
        return self.principal_of(PEOPLE[text].token_id or "")

    def principal_of(self, token_id: str) -> Principal:
        for who in PEOPLE.values():
            if who.token_id == token_id and token_id not in self.revoked:
                return who
        raise InvalidToken


@dataclass
class Used:
    """As Spent, in memory."""

    names: set[str] = field(default_factory=set)

    def claim(self, name: str) -> bool:
        fresh = name not in self.names
        self.names.add(name)
        return fresh

    def spend(self, name: str) -> None:
        self.names.add(name)

    def is_spent(self, name: str) -> bool:
        return name in self.names


class Service:
    def __init__(self, metering: Any) -> None:
        self.metering = metering
        self.authentication = Known()
        self.stopping = asyncio.Event()
        self.late: list[str] = []
        self.settings = HttpSettings(exports=1)
        self.exports = asyncio.Semaphore(self.settings.exports)

    async def run(self, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return operation(*args, **kwargs)

    change = run

    def slow(self) -> list[str]:
        return self.late

    def discard(self, close: Callable[[], None]) -> None:
        close()


def application(service: Service, now: Callable[[], datetime] = lambda: NOW) -> Starlette:
    app = Starlette(routes=list(ROUTES))
    desk = Desk(service, now)
    desk.spent = desk.links._spent = Used()
    app.state.desk = desk
    return app


def client(app: Starlette) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1:8888", follow_redirects=False)


def csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def sign_in(browser: TestClient, who: str = "mf_admin", next_path: str = "/") -> Any:
    form = browser.get("/sign-in")
    return browser.post("/sign-in", data={"csrf": csrf(form.text), "token": who, "next": next_path})
