"""Pages: every text of a producer is text, and people see what is theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.testclient import TestClient

from meterfold_schemas.errors import Retryable
from meterfold_service.console.menu import MENU
from unit.service.console.desk import MARKUP, Service, application, client, metering, sign_in

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
        other = browser.get("/usage?metric=api.calls&subject_type=user&subject_id=bob")
        assert "for another subject" in other.text


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
    assert "Download" not in page
    browser.get("/usage/records?metric=a&start=2026-11-01&subject_type=a&subject_id=b&where=region%3Deu")
    assert seen[-1]["filter"] == {"region": ["eu"]}
    assert "region=eu" in browser.get("/usage?metric=api.calls&where=region%3Deu&group=subject").text
    wrong = browser.get("/usage?metric=api.calls&where=%3Deu").text
    assert "must name a metadata field" in wrong
