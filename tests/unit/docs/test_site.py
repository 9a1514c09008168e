"""The table of contents of the site has every page, and the README leads to it."""

from __future__ import annotations

import re

from support.paths import ROOT

DOCS = ROOT / "docs"
PAGES = {page.stem for page in DOCS.glob("*.md")} - {"index"}


def test_every_page_is_in_the_table_of_contents_once() -> None:
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```$", (DOCS / "index.md").read_text(), re.MULTILINE | re.DOTALL)
    named = [line for block in blocks for line in block.splitlines() if line and not line.startswith(":")]
    assert sorted(named) == sorted(PAGES)


def test_the_readme_leads_to_the_table_of_contents_and_to_pages_that_exist() -> None:
    named = set(re.findall(r"\]\(docs/([\w-]+)\.md", (ROOT / "README.md").read_text()))
    assert "index" in named
    assert named <= PAGES | {"index"}


def test_the_readme_stays_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 120
    assert max(map(len, lines)) <= 120
