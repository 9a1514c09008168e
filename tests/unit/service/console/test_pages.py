"""Pages: every text of a producer is text, and people see what is theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import Response
from starlette.testclient import TestClient

from meterfold_schemas.errors import InvalidDefinition, Retryable
from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.console.app import add_console
from meterfold_service.console.menu import MENU
from meterfold_service.console.pages.missing import prefers_html
from meterfold_service.http.context import HttpService
from meterfold_service.http.problems import PROBLEM, add_problems
from meterfold_service.http.settings import HttpSettings
from meterfold_service.status.clickhouse_view import ClickHouseView
from meterfold_service.status.report import rejection
from meterfold_sink.rejections import RecentRejections
from unit.service.console.desk import (
    ALERT,
    MARKUP,
    METRIC,
    NOW,
    THRESHOLD,
    Service,
    application,
    client,
    csrf,
    metering,
    sign_in,
)

PATHS = (
    "/",
    "/overview/busiest",
    "/usage",
    "/usage?metric=api.calls&period=daily&group=subject&compare=1",
    f"/usage?metric={MARKUP}&group={MARKUP}&org={MARKUP}&subject_type={MARKUP}&subject_id={MARKUP}&tz={MARKUP}",
    f"/usage/records?metric={MARKUP}&start=2026-11-01&subject_type={MARKUP}&subject_id={MARKUP}",
    f"/subjects?q={MARKUP}",
    f"/subjects/one?subject_type={MARKUP}&subject_id={MARKUP}&org={MARKUP}",
    "/metrics",
    f"/metrics/new?key={MARKUP}",
    "/metrics/edit?key=api.calls",
    "/metrics/delete?key=api.calls",
    "/thresholds",
    f"/thresholds/new?name={MARKUP}",
    "/thresholds/edit?id=t",
    "/thresholds/delete?id=t",
    "/alerts",
    "/alerts/one?id=a",
    "/rejected",
    "/rejected/one?at=0:5",
    "/periods",
    "/periods/adjustments",
    "/verify",
    "/verify/last",
    "/tokens",
    "/deliveries",
    f"/deliveries/one?event_id={MARKUP}",
)


@pytest.fixture
def service() -> Service:
    return Service(metering())


@pytest.fixture
def browser(service: Service) -> Iterator[TestClient]:
    with client(application(service)) as found:
        sign_in(found)
        yield found


class Tags(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("path", PATHS)
def test_markup_is_shown_as_text(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 200, answer.text
    tags = Tags(answer.text).found
    for tag, attributes in tags:
        assert tag not in ("img", "iframe", "object", "base"), tag
        assert tag != "script" or str(attributes["src"]).startswith("/static/")
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        for name in ("href", "action", "src", "hx-get", "hx-post"):
            assert attributes.get(name) is None or str(attributes[name]).startswith(("/", "#")), (tag, attributes)
    assert "49" not in re.findall(r"\{\{7\*7\}\}|\b49\b", answer.text)
    ids = [str(attributes["id"]) for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids)), sorted(one for one in ids if ids.count(one) > 1)
    labelled = {attributes.get("for") for tag, attributes in tags if tag == "label"}
    for tag, attributes in tags:
        if tag in ("input", "select", "textarea") and attributes.get("type") not in ("hidden", "checkbox"):
            assert attributes["id"] in labelled, attributes


def test_a_person_of_one_organization_sees_no_figures_of_all(service: Service) -> None:
    with client(application(service)) as browser:
        sign_in(browser, "mf_reader")
        assert browser.get("/").headers["location"] == "/usage"
        for path in (
            "/live",
            "/overview/attention",
            "/verify",
            "/verify/last",
            "/tokens",
        ):
            assert browser.get(path).status_code == 403, path
        menu = browser.get("/usage").text
        assert 'href="/tokens"' not in menu
        assert 'href="/verify"' not in menu
        assert "Define a metric" not in browser.get("/metrics").text
        other = browser.get("/usage?metric=api.calls&org=other")
        assert "for another organization" in other.text
        assert "12,345" not in other.text


@pytest.mark.parametrize(
    "path", ["/metrics/new", "/metrics/edit?key=api.calls", "/thresholds/new", "/thresholds/edit?id=t"]
)
def test_a_form_is_for_who_may_send_it(service: Service, path: str) -> None:
    with client(application(service)) as browser:
        sign_in(browser, "mf_reader")
        refused = browser.get(path)
        assert refused.status_code == 403
        assert "lacks the scope" in refused.text
        assert ">To your usage</a>" in refused.text


def test_a_customer_sees_their_page_alone(service: Service) -> None:
    with client(application(service)) as browser:
        sign_in(browser, "mf_customer")
        page = browser.get("/")
        assert page.status_code == 200
        assert "Your usage" in page.text
        for entry in MENU:
            if entry.path not in ("/", "/usage", "/metrics", "/alerts", "/periods"):
                assert browser.get(entry.path).status_code in (303, 403), entry.path
            assert entry.path == "/" or f'<a href="{entry.path}"' not in page.text
        service.metering.metrics.definitions = lambda **_: [METRIC, METRIC.changed(id="other", key="never.used")]
        usage = browser.get("/usage").text
        assert 'value="api.calls"' in usage
        assert "never.used" not in usage, "only what the subject has used"
        asked = list[str]()
        summary = service.metering.usage.get_summary
        service.metering.usage.get_summary = lambda metric, **how: asked.append(metric) or summary(metric, **how)
        never = METRIC.changed(id="other", key="never.used", display_order=-1)
        service.metering.metrics.definitions = lambda **_: [never, METRIC]
        browser.get("/usage/download?what=table")
        assert set(asked) == {"api.calls"}, "a file without a metric is that of the page"
        other = browser.get("/usage?metric=api.calls&subject_type=user&subject_id=bob")
        assert "for another subject" in other.text
        assert ">To your usage</a>" in browser.get("/alerts").text


def test_what_was_rejected_is_one_line_and_a_link(service: Service) -> None:
    rejected = RecentRejections("too_old", "acme", 3, 2, 1042, "it is 40 days old", NOW)
    view = ClickHouseView(None, rejections=(rejected,), rejected_within=3600.0)
    report = SimpleNamespace(
        at=NOW, clickhouse=view, problems=("no checker runs", rejection(rejected, 3600.0, NOW)), partitions=(),
        kafka=SimpleNamespace(fold_group=None, checker_group=None),
    )  # fmt: skip
    service.metering.status.need = lambda: None
    app = application(service)
    app.state.desk.watch = SimpleNamespace(report=answered(report))
    with client(app) as browser:
        sign_in(browser)
        page = browser.get("/overview/attention").text
    assert "no checker runs" in page
    assert "3 messages of organization acme were rejected as too_old lately." in page
    assert 'href="/rejected?reason=too_old"' in page
    assert "1042" not in page


def answered(value: Any) -> Any:
    async def answer() -> Any:
        return value

    return answer


def test_a_warning_that_is_a_percentage_stays_one(service: Service, browser: TestClient) -> None:
    for limit, warning, shown in (("10", "9", "90%"), ("3", "2", "2"), ("1000", "805", "805"), ("1000", "800", "80%")):
        made = THRESHOLD.changed(threshold=Decimal(limit), warn_threshold=Decimal(warning))
        service.metering.thresholds.get = lambda *_, of=made: of
        form = browser.get("/thresholds/edit?id=t").text
        assert f'name="warn_threshold" type="text" value="{shown}"' in form


def test_an_alert_that_was_acted_on_says_so(service: Service, browser: TestClient) -> None:
    service.metering.alerts.acknowledge = lambda alert_id, by: ALERT
    token = csrf(browser.get("/metrics/new").text)
    row = browser.post("/alerts/acknowledge", data={"csrf": token, "id": "a"}, headers={"HX-Request": "true"})
    assert 'data-said="The alert is acknowledged"' in row.text
    assert "data-said" not in browser.get("/alerts").text


def test_a_server_that_is_away_is_named_and_the_page_comes_back(service: Service, browser: TestClient) -> None:
    def away(*args: object, **values: object) -> None:
        raise Retryable("ClickHouse does not answer")

    service.metering.status.totals = away
    answer = browser.get("/")
    assert (answer.status_code, answer.headers["refresh"]) == (503, "3")
    assert "ClickHouse does not answer" in answer.text
    service.metering.status.totals = metering().status.totals
    assert browser.get("/").status_code == 200


def test_a_defect_is_a_page_that_says_nothing_of_the_inside(service: Service, browser: TestClient) -> None:
    def broken(*args: object, **values: object) -> None:
        raise KeyError("secret detail")

    service.metering.status.totals = broken
    answer = browser.get("/")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text


def test_a_refusal_is_shown_in_the_form(service: Service, browser: TestClient) -> None:
    answer = browser.get("/rejected/one?at=nonsense")
    assert answer.status_code == 422


def test_a_page_says_that_clickhouse_is_slow(service: Service, browser: TestClient) -> None:
    assert "takes long to answer" not in browser.get("/metrics").text
    service.late = ["clickhouse"]
    assert "takes long to answer" in browser.get("/metrics").text


def test_usage_is_filtered_by_metadata_and_so_are_its_links(service: Service, browser: TestClient) -> None:
    seen: list[dict[str, Any]] = []
    for name in ("get", "get_summary"):
        operation = getattr(service.metering.usage, name)
        setattr(service.metering.usage, name, lambda *of, _=operation, **how: seen.append(how) or _(*of, **how))
    page = browser.get("/usage?metric=api.calls&where=region%3Deu,+model%3Da,model%3Db,+team&compare=1").text
    wanted = {"region": ["eu"], "model": ["a", "b"], "team": [None]}
    assert [one["filter"] for one in seen] == [wanted, wanted]
    for text in ("where=region%3Deu&amp;where=model%3Da", "missing=team", "&#39;team&#39;: [None]"):
        assert text in page
    assert "what=table" in page
    assert "what=records" not in page, "an export has no filter of metadata"
    browser.get("/usage/download?metric=api.calls&where=region%3Deu&group=model&period=billing&anchor=15&tz=Asia/Tokyo")
    of_file = {name: seen[-1][name] for name in ("filter", "group_by", "period", "anchor", "tz", "org_id")}
    assert of_file == {
        "filter": {"region": ["eu"]},
        "group_by": ("model",),
        "period": "billing",
        "anchor": 15,
        "tz": "Asia/Tokyo",
        "org_id": None,
    }
    assert "top" not in seen[-1], "the file has all groups"
    browser.get("/usage/records?metric=a&start=2026-11-01&subject_type=a&subject_id=b&where=region%3Deu")
    assert seen[-1]["filter"] == {"region": ["eu"]}
    assert "region=eu" in browser.get("/usage?metric=api.calls&where=region%3Deu&group=subject").text
    wrong = browser.get("/usage?metric=api.calls&where=%3Deu").text
    assert "must name a metadata field" in wrong


def posted(browser: TestClient, path: str, **form: str) -> Response:
    return browser.post(path, data={"csrf": csrf(browser.get("/metrics/new").text), **form})


def test_a_form_names_the_field_that_is_wrong_and_no_class(service: Service, browser: TestClient) -> None:
    def refuse(**_: Any) -> None:
        raise InvalidDefinition(
            "UsageThreshold: warn_threshold: 12 must be below the threshold, 10",
            problems=[("warn_threshold", "12 must be below the threshold, 10")],
        )

    service.metering.thresholds.preview_create = refuse
    form = {"metric_key": "api.calls", "name": "quota", "threshold": "10", "warn_threshold": "12"}
    page = posted(browser, "/thresholds/new", **form)
    assert page.status_code == 422
    assert "<code>warn_threshold</code> 12 must be below the threshold, 10" in page.text
    assert "UsageThreshold" not in page.text


def test_a_threshold_shows_what_it_finds_before_it_is_stored(service: Service, browser: TestClient) -> None:
    stored: list[dict[str, object]] = []
    service.metering.thresholds.create = lambda **values: stored.append(values)
    service.metering.thresholds.update = lambda threshold_id, **values: stored.append(values)
    form = {"metric_key": "api.calls", "name": "quota", "threshold": "10", "id": "t"}
    for path, text in (
        ("/thresholds/new", "2 windows are exceeded already."),
        ("/thresholds/edit", "0 windows are exceeded, instead of 2."),
    ):
        asked = posted(browser, path, **form)
        assert asked.status_code == 200
        assert text in asked.text
        assert stored == []
        assert posted(browser, path, **form, step="save").status_code == 303
        assert stored.pop()["name"] == "quota"
    deleting = browser.get("/thresholds/delete?id=t").text
    assert "It judges 3 current windows of its subjects, and none afterwards." in deleting


def test_an_unknown_address_is_a_page_for_a_browser_and_a_problem_for_a_program() -> None:
    app = FastAPI()
    add_problems(app)
    add_console(
        app, HttpService(Metering(sources=Sources({"HTTP_TOKEN_KEY": "k" * 32}, {}, None)), None, HttpSettings())
    )  # type: ignore[arg-type]
    page = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    with client(app) as browser:
        for method, path, status in (
            ("GET", f"/nowhere/{MARKUP}", 404),
            ("POST", "/nowhere", 404),
            ("GET", "/sign-out", 404),
        ):
            found = browser.request(method, path, headers=page)
            assert found.status_code == status, path
            assert "Page not found" in found.text
            assert "<script>alert" not in found.text
            assert "default-src 'none'" in found.headers["content-security-policy"]
        for path in ("/nowhere", "/v1/nowhere", "/api/v1/nowhere", "/v1"):
            for accept in (
                "*/*",
                "application/json",
                "text/html;q=0.5, application/json",
                *([page["Accept"]] if path != "/nowhere" else []),
            ):
                problem = browser.get(path, headers={"Accept": accept})
                assert (problem.status_code, problem.headers["content-type"]) == (404, PROBLEM), (path, accept)
                assert problem.json()["detail"].startswith(f"no operation has the path '{path}'")
        wrong = browser.put("/usage", headers={"Accept": "*/*"})
        assert (wrong.json()["code"], wrong.headers["allow"]) == ("METHOD_NOT_ALLOWED", "GET, HEAD")


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        ("text/html", True), ("*/*", False), ("", False), ("text/html;q=0.9, application/json;q=0.8", True),
        ("application/problem+json, text/html;q=0.9", False), ("text/html;q=x", False), ("TEXT/HTML ; q=1", True),
    ],
)  # fmt: skip
def test_what_asks_for_a_page(accept: str, is_page: bool) -> None:
    assert prefers_html(accept) is is_page
