"""docs/guarantees.md names what there is: every test, the steps of a flush in their order, and where it was read."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import get_args

from meterfold_processor.fold.flush import Step
from support.paths import ROOT

TEXT = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def failures() -> list[list[str]]:
    """The cells of each row of the table, without the rows that only part it."""
    lines = [line for line in section("Failures").splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    return [row for row in cells if not row[0].startswith("**")]


def defined_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"\btest_\w+", TEXT))
    assert len(named) > 80
    assert named - defined_tests() == set()


def test_every_failure_has_what_repairs_it_and_a_test_that_shows_it() -> None:
    rows = failures()
    assert len(rows) > 50
    for what, repair, shown in rows:
        assert what, shown
        assert repair, what
        assert re.fullmatch(r"`test_\w+`(, `test_\w+`)*", shown), what
    assert max(Counter(what for what, _, _ in rows).values()) == 1


def test_the_steps_of_a_flush_are_those_of_the_source_in_their_order() -> None:
    assert re.findall(r"^\d\. \*\*(\w+)\*\*", section("The steps of a flush"), re.MULTILINE) == list(get_args(Step))


def test_every_source_is_used_and_every_reference_has_one() -> None:
    others = section("How other systems behave at the same points")
    table, sources = others.split("\n1. ")[0], f"1. {others.split(chr(10) + '1. ')[1]}"
    numbers = re.findall(r"^(\d+)\. ", sources, re.MULTILINE)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert set(re.findall(r"\[(\d+)\]", table)) == set(numbers)
    assert len(re.findall(r"<https://[^>]+>", sources)) >= len(numbers)


def test_files_that_are_linked_exist() -> None:
    for path in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", TEXT):
        assert (ROOT / "docs" / path).is_file(), path
