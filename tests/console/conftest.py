"""The console in real Chromium: `make test-console`. One `meterfold up` for all tests, and one browser.

A message of the browser's console, an error of a script, and a report of the content security policy fail the test in
which they appear. Screenshots are kept in the folder METERFOLD_SCREENSHOTS, else in .venv/console/screenshots.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from console.driving import CHROMIUM, Browser, Console, listen
from support.cli import meterfold, running

sync_api = pytest.importorskip("playwright.sync_api", reason="make test-console installs it")


RUNNING = os.environ.get("METERFOLD_CONSOLE_DATA")
"""The data folder of a `meterfold up` that runs already: faster while one works on a page."""


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    data = Path(RUNNING) if RUNNING else folder / "data"
    env = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), "METERFOLD_CONFIG": str(data / "meterfold.toml")}
    if RUNNING:
        link = meterfold("token", "link", env=env).stdout.strip()
        yield Console(link.partition("/sign-in")[0], env, data, link)
        return
    options = ("--data", str(data), "--port", "0", "--clickhouse-port", "0", "--http-port", "0", "--json")
    with running("up", *options, env=env, folder=folder, ready='"ready"', deadline=180) as up:
        lines = (json.loads(line) for line in up.output().splitlines() if line.startswith("{"))
        ready = next(line for line in lines if line.get("event") == "ready")
        yield Console(ready["console_url"], env, data, ready["sign_in_link"])


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.fail("Chromium is not installed; on Debian: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        # Chromium has no sandbox for root, which CI is.
        more = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=more)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def signed_in(console: Console, chromium: Any) -> Any:
    """The cookies of a session that the link of `meterfold up` has opened."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(console.link)
    page.wait_for_url(f"{console.url}/")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def browser(console: Console, chromium: Any, signed_in: Any) -> Iterator[Browser]:
    context = chromium.new_context(storage_state=signed_in, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(30_000)
    found = Browser(context.new_page(), console.url)
    listen(found)
    yield found
    context.close()
    assert found.said == []
