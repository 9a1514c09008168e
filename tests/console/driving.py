"""A browser that tests drive, and the console that it shows."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.paths import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = ROOT / ".venv/console/axe.min.js"
SCREENSHOTS = Path(os.environ.get("METERFOLD_SCREENSHOTS") or ROOT / ".venv/console/screenshots")
REPORT = (
    "document.addEventListener('securitypolicyviolation', e => console.error('csp', e.violatedDirective, e.blockedURI))"
)


@dataclass
class Console:
    """A running stack and its console."""

    url: str
    env: dict[str, str]
    data: Path
    link: str


@dataclass
class Browser:
    """One window that is signed in, and what its console said."""

    page: Any
    url: str
    said: list[str] = field(default_factory=list)

    def open(self, path: str) -> Any:
        answer = self.page.goto(self.url + path, wait_until="load")
        assert answer.status == 200, (path, answer.status, self.page.inner_text("main"))
        return self.page

    def text(self) -> str:
        return self.page.inner_text("main")


def listen(browser: Browser) -> None:
    page = browser.page
    page.on("console", lambda one: one.type in ("error", "warning") and browser.said.append(f"{one.type}: {one.text}"))
    page.on("pageerror", lambda error: browser.said.append(f"script: {error}"))
    page.add_init_script(REPORT)


def shoot(page: Any, path: str, mode: str) -> Path:
    """A screenshot of the whole page, by its path."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W+", "-", path).strip("-")[:60] or "overview"
    place = SCREENSHOTS / f"{name}.{mode}.png"
    page.screenshot(path=str(place), full_page=True)
    return place
