"""Every page: no difference for axe, no sideways scrolling at 360 px, and a screenshot to look at."""

from __future__ import annotations

from typing import Any

import pytest

from console.driving import AXE, Browser, Console, shoot
from meterfold import Meter
from support import eventually
from support.cli import answer

PATHS = (
    "/",
    "/usage",
    "/usage?metric=api.calls&period=daily&group=subject&compare=1",
    "/subjects",
    "/subjects/one?subject_type=user&subject_id=ada",
    "/metrics",
    "/metrics/new",
    "/metrics/edit?key=api.calls",
    "/metrics/delete?key=api.calls",
    "/thresholds",
    "/thresholds/new",
    "/alerts",
    "/rejected",
    "/periods",
    "/verify",
    "/tokens",
    "/deliveries",
)
MODES = {"light": (1280, 900, "light"), "dark": (1280, 900, "dark"), "narrow": (360, 740, "light")}


@pytest.fixture(scope="module")
def filled(console: Console) -> None:
    answer("metric", "define", "api.calls", "--name", "API calls", "--unit", "calls", env=console.env, code=None)
    answer("threshold", "create", "api.calls", "--name", "quota", "--value", "100", env=console.env, code=None)
    with Meter(config=console.data / "meterfold.toml") as meter:
        for number in range(200):
            meter.record("api.calls", ("user", ("ada", "grace", "linus")[number % 3]), number % 9, id=f"page-{number}")
    eventually(lambda: answer("alert", "list", env=console.env)["total"] >= 3, 60, "alerts")


@pytest.mark.parametrize("path", PATHS)
def test_a_page(browser: Browser, filled: None, path: str) -> None:
    page = browser.page
    for mode, (width, height, scheme) in MODES.items():
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        browser.open(path)
        page.wait_for_function("() => !document.querySelector('.htmx-request')")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, mode)
        assert violations(page) == [], (path, mode)
        shoot(page, path, mode)


def violations(page: Any) -> list[str]:
    """What axe finds. It is run by the test, from outside of the page's policy."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {one['help']}: {node['html'][:160]}" for one in found["violations"] for node in one["nodes"][:3]
    ]


def test_the_keyboard_alone_is_enough(browser: Browser, filled: None) -> None:
    page = browser.open("/usage?metric=api.calls")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # opens Download
    assert page.locator("details.drop[open]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("details.drop[open]").count() == 0


def test_the_chart_and_the_table_have_the_same_numbers(browser: Browser, filled: None) -> None:
    page = browser.open("/usage?metric=api.calls&period=daily")
    assert page.locator(".plot canvas").count() == 1
    for row in page.locator("#t-usage tbody tr").all():
        shown = row.locator("td.strong").inner_text().replace(",", "")
        assert float(shown) == float(row.get_attribute("data-y"))


@pytest.mark.parametrize("width", [1280, 360])
def test_the_legend_of_a_chart_is_seen_as_a_whole(browser: Browser, filled: None, width: int) -> None:
    page = browser.open("/metrics")
    page.set_viewport_size({"width": width, "height": 800})
    page = browser.open("/usage?metric=api.calls&period=daily&group=subject")
    boxes = {name: page.locator(name).bounding_box() for name in (".u-legend", ".plot", ".u-wrap", "#t-usage")}
    ends = {name: box["y"] + box["height"] for name, box in boxes.items()}
    assert boxes[".u-legend"]["height"] > 10
    assert ends[".u-legend"] <= ends[".plot"] + 0.5
    assert ends[".plot"] <= boxes["#t-usage"]["y"]
    assert boxes[".plot"]["height"] == 224, "nothing moves when the chart appears"
    assert boxes[".u-wrap"]["height"] + boxes[".u-legend"]["height"] > 210, "no room is lost"


def test_the_theme_is_kept(browser: Browser) -> None:
    page = browser.open("/metrics")
    page.emulate_media(color_scheme="light")
    page.click("[data-theme-switch]")
    assert page.get_attribute("html", "data-theme") == "dark"
    page.reload()
    assert page.get_attribute("html", "data-theme") == "dark"
    page.click("[data-theme-switch]")
