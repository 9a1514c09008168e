"""Who may see a page: sessions, links, forms of other sites, and addresses that lead elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from meterfold_schemas.errors import Retryable
from meterfold_service.access.errors import InvalidToken
from meterfold_service.console.app import ROUTES
from meterfold_service.console.headers import CONTENT_SECURITY_POLICY
from meterfold_service.console.links import LINK_MINUTES, Links, link_of
from meterfold_service.console.sessions import IDLE_SECONDS, LONGEST_SECONDS, RENEW_SECONDS, Session, Signer
from meterfold_service.console.visit import own_path
from support.altered import altered
from unit.service.console.desk import KEY, NOW, Service, Used, application, client, csrf, metering, sign_in

PAGES = sorted({route.path for route in ROUTES if "GET" in (route.methods or ()) and "{" not in route.path})
FORMS = sorted({route.path for route in ROUTES if "POST" in (route.methods or ())})
OPEN = {"/sign-in", "/sign-in/link"}


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def service() -> Service:
    return Service(metering())


@pytest.fixture
def browser(service: Service, clock: Clock) -> Iterator[TestClient]:
    with client(application(service, clock)) as found:
        yield found


def cookie_of(browser: TestClient) -> str:
    return browser.cookies["meterfold-8888"]


def test_there_are_pages_and_forms() -> None:
    assert len(PAGES) > 20
    assert len(FORMS) > 12


@pytest.mark.parametrize("path", [path for path in PAGES if path not in OPEN])
def test_a_page_sends_a_stranger_to_sign_in(browser: TestClient, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=%2F")
    fragment = browser.get(path, headers={"HX-Request": "true"})
    assert (fragment.status_code, fragment.headers["hx-redirect"]) == (401, "/sign-in")


@pytest.mark.parametrize("path", FORMS)
def test_a_form_needs_the_token_of_its_session_and_our_origin(browser: TestClient, path: str) -> None:
    assert sign_in(browser).status_code == 303
    good = csrf(browser.get("/tokens").text)
    assert browser.post(path, data={"token": "mf_admin"}).status_code == 403
    assert browser.post(path, data={"csrf": "0" * 64}).status_code == 403
    elsewhere = browser.post(path, data={"csrf": good}, headers={"Origin": "http://evil.example"})
    assert elsewhere.status_code == 403
    assert browser.post(path, data={"csrf": good}, headers={"Origin": "null"}).status_code == 403


def test_every_answer_has_the_headers(browser: TestClient) -> None:
    answers = [browser.get(path) for path in ("/sign-in", "/", "/static/console.css", "/static/nothing.js")]
    answers.append(browser.post("/sign-in", data={}))
    sign_in(browser)
    answers += [browser.get(path) for path in ("/", "/metrics", "/usage/records", "/live-not")]
    for answer in answers[:-1]:
        assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "cache-control" in answer.headers
    assert "unsafe" not in CONTENT_SECURITY_POLICY


def test_a_sign_in_makes_a_new_session(browser: TestClient) -> None:
    browser.get("/sign-in")
    before = cookie_of(browser)
    answer = sign_in(browser)
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    after = cookie_of(browser)
    assert after.split(".")[0] != before.split(".")[0]
    assert browser.get("/metrics").status_code == 200
    browser.cookies.set("meterfold-8888", before, domain="127.0.0.1", path="/")
    browser.cookies = {"meterfold-8888": before}
    assert browser.get("/metrics").status_code == 303


def test_over_https_the_cookie_is_for_this_host_and_secure(service: Service) -> None:
    with TestClient(application(service), base_url="https://console.example", follow_redirects=False) as browser:
        cookie = browser.get("/sign-in").headers["set-cookie"]
    assert cookie.startswith("__Host-meterfold=")
    assert "Secure" in cookie


def test_a_wrong_token_and_one_that_only_sends_are_refused(browser: TestClient) -> None:
    answer = sign_in(browser, "mf_nothing")
    assert answer.status_code == 401
    assert "mf_nothing" not in answer.text
    assert browser.get("/metrics").status_code == 303


def test_a_session_ends_with_its_token_by_sign_out_and_by_time(
    browser: TestClient, service: Service, clock: Clock
) -> None:
    sign_in(browser)
    service.authentication.revoked.add("admin-token")
    assert browser.get("/metrics").status_code == 303
    service.authentication.revoked.clear()

    sign_in(browser)
    copy = cookie_of(browser)
    form = csrf(browser.get("/tokens").text)
    assert browser.post("/sign-out", data={"csrf": form}).headers["location"] == "/sign-in?done=signed-out"
    browser.cookies = {"meterfold-8888": copy}
    assert browser.get("/metrics").status_code == 303

    browser.cookies = {}
    sign_in(browser)
    clock.now += timedelta(seconds=IDLE_SECONDS + 1)
    assert browser.get("/metrics").status_code == 303
    browser.cookies = {}
    sign_in(browser)
    for _ in range(LONGEST_SECONDS // IDLE_SECONDS * 2):
        assert browser.get("/metrics").status_code == 200
        clock.now += timedelta(seconds=IDLE_SECONDS / 2 + 1)
    assert browser.get("/metrics").status_code == 303


def test_a_server_that_is_away_signs_nobody_out(
    browser: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(browser)
    before = cookie_of(browser)

    def away(token_id: str) -> None:
        raise Retryable("ClickHouse does not answer")

    with monkeypatch.context() as during:
        during.setattr(service.authentication, "principal_of", away)
        answer = browser.get("/metrics")
        assert answer.status_code == 503
        assert "tries again every 3 seconds" in answer.text
    assert cookie_of(browser) == before
    assert browser.get("/metrics").status_code == 200


def test_a_page_that_is_open_does_not_keep_its_session(browser: TestClient, clock: Clock) -> None:
    sign_in(browser)
    before = cookie_of(browser)
    clock.now += timedelta(seconds=RENEW_SECONDS + 1)
    browser.get("/verify/last", headers={"HX-Request": "true"})
    assert cookie_of(browser) == before
    browser.get("/metrics")
    assert cookie_of(browser) != before


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/usage?metric=a", "/usage?metric=a"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\n//evil.example", "/"),
        ("/a\\..\\b", "/"),
        ("", "/"),
    ],
)
def test_a_sign_in_leads_to_a_page_of_ours(browser: TestClient, text: str, path: str) -> None:
    assert own_path(text) == path
    assert sign_in(browser, next_path=text).headers["location"] == path


def redeemed(links: Links, text: str) -> Any:
    try:
        return links.redeem(text)
    except InvalidToken as error:
        return str(error)


def test_a_link_signs_in_once_and_for_a_short_time() -> None:
    signer, used = Signer(KEY), Used()
    now = NOW.timestamp()
    links = Links(signer, used, lambda: now)
    text = link_of(signer, "token-id", now + 60 * LINK_MINUTES)
    assert redeemed(links, altered(text)) != "token-id"
    assert redeemed(links, text) == "token-id"
    assert "was used before" in redeemed(links, text)
    old = link_of(signer, "token-id", now - 1)
    assert "too old" in redeemed(links, old)
    session = Session.new(now, "token-id").cookie(signer)
    for other in ("", "a.b.c.d", session, link_of(Signer(type(KEY)("x" * 32)), "token-id", now + 60)):
        assert "not valid" in redeemed(links, other)


def test_a_link_is_used_up_by_a_form_and_not_by_looking_at_it(browser: TestClient) -> None:
    text = link_of(Signer(KEY), "admin-token", NOW.timestamp() + 60)
    for _ in range(2):
        form = browser.get("/sign-in/link", params={"link": text})
        assert "data-submit-now" in form.text
    assert browser.post("/sign-in/link", data={"csrf": csrf(form.text), "link": text}).status_code == 303
    assert browser.get("/metrics").status_code == 200
    browser.cookies = {}
    form = browser.get("/sign-in/link", params={"link": text})
    assert browser.post("/sign-in/link", data={"csrf": csrf(form.text), "link": text}).status_code == 401


def test_a_cookie_that_was_changed_is_nothing() -> None:
    signer = Signer(KEY)
    session = Session.new(NOW.timestamp(), "t")
    cookie = session.cookie(signer)
    assert Session.read(cookie, signer, NOW.timestamp()) == session
    for wrong in (
        None,
        "",
        "x",
        altered(cookie),
        cookie.replace(".t.", ".u."),
        "é" + cookie,
    ):
        assert Session.read(wrong, signer, NOW.timestamp()) is None
    assert session.csrf(signer) != Session.new(NOW.timestamp(), "t").csrf(signer)
