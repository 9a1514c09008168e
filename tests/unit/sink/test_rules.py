"""The stored rules: which are refused, and how they are compared."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from meterfold_schemas.errors import Fatal, InvalidSettings
from meterfold_sink.rules import FoldRules

DAY = 86_400
KNOWN: dict[str, Any] = {"cluster_id": "c", "topic_id": "t", "partition_count": 6}


def test_the_defaults_keep_records_long_enough() -> None:
    rules = FoldRules(**KNOWN)
    assert rules.lookback_seconds == 35 * DAY + 300
    assert rules.record_retention_seconds == 100 * DAY


def test_rows_and_back() -> None:
    rules = FoldRules(**KNOWN, horizon_seconds=3 * DAY, decoder_version="2")
    rows = rules.to_rows()
    assert all(isinstance(value, str) for value in rows.values())
    assert set(rows) == {field.name for field in fields(FoldRules)}
    assert FoldRules.from_rows({**rows, "poison_fingerprint:0011223344556677": "an operator"}) == rules


def test_history_06_records_must_outlive_a_retry_that_waits_unread() -> None:
    needed = 35 * DAY + 300 + 14 * DAY + DAY
    FoldRules(**KNOWN, record_retention_seconds=needed)
    with pytest.raises(InvalidSettings, match=rf"record_retention_seconds {needed - 1} is too short.*{needed}"):
        FoldRules(**KNOWN, record_retention_seconds=needed - 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("horizon_seconds", 0),
        ("horizon_seconds", -1),
        ("slack_seconds", -1),
        ("grace_seconds", 1.5),
        ("grace_seconds", True),
        ("partition_count", 0),
    ],
)
def test_values_that_make_no_sense_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettings, match=name):
        FoldRules(**{**KNOWN, name: value})


@pytest.mark.parametrize("value", ["", "-1", "1.0", " 1", "٣", "1e3"])
def test_a_stored_number_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(Fatal, match="horizon_seconds is"):
        FoldRules.from_rows({**FoldRules(**KNOWN).to_rows(), "horizon_seconds": value})


def test_a_missing_rule_names_the_command() -> None:
    rows = FoldRules(**KNOWN).to_rows()
    del rows["grace_seconds"]
    with pytest.raises(Fatal, match=r"no grace_seconds: run `meterfold migrate`"):
        FoldRules.from_rows(rows)


def test_history_10_rules_that_differ_are_refused_by_name() -> None:
    mine = FoldRules(**KNOWN, horizon_seconds=3 * DAY)
    stored = FoldRules(**{**KNOWN, "topic_id": "other"})
    mine.require_same(mine)
    with pytest.raises(Fatal) as refused:
        mine.require_same(stored)
    text = str(refused.value)
    assert "horizon_seconds is stored as '3024000', not '259200'" in text
    assert "topic_id is stored as 'other', not 't'" in text
    assert "docs/operations.md" in text
    assert "slack_seconds" not in text


@pytest.mark.parametrize("name", [field.name for field in fields(FoldRules)])
def test_no_field_is_left_out_of_the_comparison(name: str) -> None:
    rules = FoldRules(**KNOWN)
    rows = rules.to_rows()
    changed = {**rows, name: f"{rows[name]}0" if rows[name].isdecimal() else "else"}
    if name in ("horizon_seconds", "source_retention_seconds", "slack_seconds", "future_tolerance_seconds"):
        changed["record_retention_seconds"] = "999999999"
    assert any(found.startswith(name) for found in rules.differences(FoldRules.from_rows(changed)))
