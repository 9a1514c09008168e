"""What a person does: define a metric, see usage appear, set a limit, cross it, close a period, see an adjustment."""

from __future__ import annotations

import json
import secrets
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from console.driving import Browser, Console
from meterfold import Meter
from meterfold_processor.kafka.clients import Outgoing, producer, publish
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.settings_sources import Sources
from meterfold_schemas.topics import Topics
from meterfold_service.console.menu import MENU
from support import eventually
from support.cli import answer

NotInTime = pytest.importorskip("playwright.sync_api").TimeoutError

CLOSED = f"closed.{secrets.token_hex(4)}"
METRIC = f"flow.{secrets.token_hex(4)}"
MOST = 6
"""Addresses of one page that a test opens."""
MARKUP = "<script>document.title='owned'</script>\"'><img src=x onerror=\"document.title='owned'\">"


def until(browser: Browser, path: str, text: str) -> None:
    """Reload a page until it shows a text, at once or in a part that it loads."""

    def shows() -> bool:
        browser.open(path)
        with suppress(NotInTime):
            browser.page.wait_for_function("text => document.body.innerText.includes(text)", arg=text, timeout=2_000)
        return text in browser.text()

    eventually(shows, 60, f"{path} shows {text}")


def live(page: Any, name: str) -> int:
    return int(page.inner_text(f'dd[data-live="{name}"]').replace(",", ""))


def test_a_person_meters_something(console: Console, browser: Browser) -> None:
    page = browser.open("/")
    begun = live(page, "counted")

    page.click("text=Metrics")
    page.click("text=Define a metric")
    page.fill("#f-key", METRIC)
    page.fill("#f-name", "Calls")
    page.fill("#f-unit", "calls")
    page.click("button.primary")
    page.wait_for_selector("text=The metric is defined.")
    assert METRIC in browser.text()

    page = browser.open("/")
    counted = live(page, "counted")
    with Meter(config=console.data / "meterfold.toml") as meter:
        for number in range(5):
            meter.record(METRIC, ("user", "ada"), 10, id=f"flow-{number}")
    eventually(lambda: live(page, "counted") >= counted + 5, 60, "the events appear without a reload")
    assert counted >= begun

    until(browser, f"/usage?metric={METRIC}&period=daily&group=subject", "50.00")
    page.locator("#t-usage").get_by_text("Records").click()
    page.get_by_role("heading", name="Records").wait_for()
    assert page.locator("tbody tr").count() == 5

    page = browser.open(f"/thresholds/new?metric_key={METRIC}")
    page.fill("#f-name", "quota")
    page.fill("#f-threshold", "60")
    page.fill("#f-subject_type", "user")
    page.click("button.primary")
    page.wait_for_selector("text=1 window is approaching already.")
    page.click("button.primary")
    page.wait_for_selector("text=The threshold is created.")
    with Meter(config=console.data / "meterfold.toml") as meter:
        meter.record(METRIC, ("user", "ada"), 25, id="flow-over")
    until(browser, f"/alerts?metric={METRIC}", "exceeded")
    row = page.locator("tbody tr", has_text="exceeded")
    row.get_by_role("button", name="Acknowledge").click()
    row.get_by_text("acknowledged", exact=True).wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Resolve", "a keyboard stays where it was"
    assert page.inner_text("#said") == "The alert is acknowledged"
    page.locator("tbody tr", has_text="exceeded").locator("a").first.click()
    page.wait_for_selector("text=acknowledged by")


def test_a_closed_period_that_moves_is_an_adjustment(console: Console, browser: Browser) -> None:
    hour = (datetime.now(UTC) - timedelta(hours=3)).replace(minute=0, second=0, microsecond=0)
    answer("metric", "define", CLOSED, "--name", "Closed", "--unit", "calls", env=console.env, code=None)
    with Meter(config=console.data / "meterfold.toml") as meter:
        meter.record(CLOSED, ("user", "ada"), 3, id="closed-1", timestamp=hour)
    until(browser, f"/usage?metric={CLOSED}&period=hourly&start={hour:%Y-%m-%dT%H:%M}&tz=UTC", "3.00")

    page = browser.open("/periods")
    page.click("text=Close a period by hand")
    page.select_option("#f-period", "hourly")
    page.fill("#f-start", f"{hour:%Y-%m-%dT%H:%M}")
    page.locator("details form button").click()
    page.wait_for_selector("text=The period is closed.")
    with Meter(config=console.data / "meterfold.toml") as meter:
        meter.record(CLOSED, ("user", "ada"), 4, id="closed-late", timestamp=hour)
    until(browser, "/periods", CLOSED)
    assert "4" in page.locator("section", has_text="Adjustments").inner_text()


def test_verify_runs_and_proves(browser: Browser) -> None:
    page = browser.open("/verify")
    page.click("text=Verify now")
    page.wait_for_selector("text=took", timeout=120_000)
    assert "difference" not in browser.text()


def marked(name: str) -> str:
    return f"{name}:{MARKUP}"


def test_markup_that_a_producer_sends_is_text_on_every_page(console: Console, browser: Browser) -> None:
    """Each text of an event, of a message that is rejected, and of definitions is shown somewhere, and is text there.
    Every link that a page has leads to a page."""
    event = {name: marked(name) for name in ("subject_type", "subject_id", "org_id", "id", "source", "resource_type")}
    event |= {"resource_id": marked("resource_id"), "metadata": {marked("field"): marked("value")}}
    metric = f"markup.{secrets.token_hex(4)}"
    answer("metric", "define", metric, "--name", marked("name"), "--unit", marked("unit"), env=console.env, code=None)
    scope = ("--subject-type", event["subject_type"], "--value", "50", "--name", marked("threshold"))
    answer("threshold", "create", metric, *scope, env=console.env, code=None)
    answer("token", "create", marked("token"), "--scope", "read", env=console.env, code=None)
    with Meter(config=console.data / "meterfold.toml") as meter:
        meter.record_batch([{"metric_key": metric, "quantity": 100, **event}]).raise_refused()
        meter.record(metric, ("user", "\u202eright to left"), 1)
        meter.record(metric, ("user", "long" * 120), 1)
    refused = {name: f"no {text}" for name, text in event.items() if name != "metadata"}
    refused |= {"metric_key": marked("no metric_key"), "quantity": marked("no quantity"), marked("no field"): 1}
    kafka = KafkaSettings.load(sources=Sources.read(config=console.data / "meterfold.toml"))
    topic = Topics(kafka.topic_prefix).usage_recorded
    values = json.dumps(refused).encode(), b"\xff" + marked("bytes").encode()
    publish(producer(kafka), [Outgoing(topic, value, marked("key").encode(), 0) for value in values], 20)

    until(browser, "/rejected", "undecodable")
    until(browser, f"/alerts?metric={metric}", "exceeded")
    shown = "\n".join(crawled(browser, [f"/usage?metric={metric}&group=subject", "/subjects?q=onerror", "/rejected"]))
    sent = [*event.keys() - {"metadata"}, "field", "value", "name", "unit", "threshold", "token", "key", "bytes"]
    sent += [f"no {name}" for name in ("id", "org_id", "source", "metric_key", "quantity", "field")]
    assert [name for name in sent if f"{name}:<script>" not in shown] == []


def crawled(browser: Browser, paths: list[str]) -> Iterator[str]:
    """The text of each page of the menu, of these and of what they link to: a few addresses of each page."""
    page, waiting, seen, of_page = browser.page, deque(paths), set[str](), Counter[str]()
    waiting += [entry.path for entry in MENU]
    while waiting:
        path = waiting.popleft()
        name = path.partition("?")[0]
        if path in seen or of_page[name] >= MOST or name in ("/usage/download", "/sign-out"):
            continue
        seen.add(path)
        of_page[name] += 1
        browser.open(path)
        page.wait_for_function("() => !document.querySelector('.htmx-request')")
        assert page.locator("main script, main img").count() == 0, path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.title().endswith(" · Meterfold"), path
        # Also what is folded up, and what is typed into fields.
        yield page.evaluate("document.querySelector('main').textContent")
        yield page.evaluate("[...document.querySelectorAll('main input')].map(one => one.value).join('\\n')")
        links = page.eval_on_selector_all("a[href^='/']", "all => all.map(one => one.getAttribute('href'))")
        waiting += [link for link in links if link not in seen]


def test_a_customer_sees_one_subject_and_nothing_else(console: Console, browser: Browser, chromium: Any) -> None:
    with Meter(config=console.data / "meterfold.toml") as meter:
        meter.record(METRIC, ("user", "customer"), 7, id="customer-1")
    until(browser, "/subjects?q=customer", "customer")
    page = browser.open("/subjects/one?subject_type=user&subject_id=customer")
    page.click("text=Make a link")
    link = page.inner_text("#c-link")
    context = chromium.new_context()
    try:
        other = context.new_page()
        other.goto(link)
        other.wait_for_url(f"{console.url}/")
        assert "Your usage" in other.inner_text("main")
        assert other.locator("nav a").count() == 1
        for path in ("/alerts", "/thresholds", "/tokens", "/subjects", "/rejected", "/periods", "/verify", "/live"):
            answered = other.request.get(console.url + path)
            assert "ada" not in answered.text(), path
        again = chromium.new_context().new_page()
        again.goto(link)
        again.wait_for_selector("text=was used before")
    finally:
        context.close()
