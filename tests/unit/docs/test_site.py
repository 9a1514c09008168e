"""The table of contents of the site, and of the README, has every page."""

from __future__ import annotations

import re

from support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = {page.stem for page in DOCS.glob("*.md")} - {"index"}


def test_every_page_is_in_the_table_of_contents_once() -> None:
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```$", (DOCS / "index.md").read_text(), re.MULTILINE | re.DOTALL)
    named = [line for block in blocks for line in block.splitlines() if line and not line.startswith(":")]
    assert sorted(named) == sorted(PAGES)


def test_the_readme_names_every_page_that_people_read() -> None:
    named = set(re.findall(r"\]\(docs/([\w-]+)\.md", (ROOT / "README.md").read_text()))
    assert named == PAGES - {"chaos-runs", "reference"}


def test_the_readme_stays_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 120
    assert max(map(len, lines)) <= 120
