"""docs/glossary.md defines each term once, and says of the stored settings what `meterfold migrate` stores."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from meterfold_schemas.errors import RejectReason
from meterfold_sink.rules import FoldRules
from support.paths import ROOT

ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), re.M)
TERMS = {term: meaning for term, meaning in ROWS if term not in ("term", "---")}


def test_every_term_is_defined_once() -> None:
    found = Counter(term for term, _ in ROWS if term != "term")
    assert len(found) > 50
    assert [term for term, times in found.items() if times > 1] == []


@pytest.mark.parametrize(
    ("term", "field", "unit", "seconds"),
    [
        ("horizon", "horizon_seconds", "days", 86_400),
        ("future tolerance", "future_tolerance_seconds", "minutes", 60),
        ("slack", "slack_seconds", "day", 86_400),
        ("grace period", "grace_seconds", "hour", 3_600),
        ("record retention", "record_retention_seconds", "days", 86_400),
        ("source retention", "source_retention_seconds", "days", 86_400),
    ],
)
def test_defaults_are_those_of_the_stored_settings(term: str, field: str, unit: str, seconds: int) -> None:
    default = FoldRules.__dataclass_fields__[field].default
    assert f": {default // seconds} {unit}" in TERMS[term]


def test_the_reasons_are_those_of_the_source() -> None:
    named = set(re.findall(r"`(\w+)`", TERMS["rejected"].split("reasons")[1]))
    assert named == set(RejectReason.__args__)  # type: ignore[attr-defined]
