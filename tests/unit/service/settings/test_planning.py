"""Which changes of stored settings are possible, and in which steps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.errors import InvalidSettings
from meterfold_service.settings.durations import duration_seconds, duration_text
from meterfold_service.settings.planning import (
    CHANGEABLE,
    Actual,
    Plan,
    history_needed,
    parsed,
    plan,
    require_history,
)
from meterfold_sink.rules import FoldRules

DAY = 86_400
TABLES = ("usage_records", "usage_duplicates")
RULES = FoldRules(cluster_id="c", topic_id="t", partition_count=6)
ACTUAL = Actual(RULES, 3600, dict.fromkeys(TABLES, 100 * DAY), 14 * DAY * 1000, 14 * DAY * 1000)


def after(actual: Actual, planned: Plan) -> Actual:
    """What is stored and in effect once a plan is carried out."""
    return Actual(
        planned.rules,
        planned.hold_seconds,
        {**actual.ttls, **planned.longer_ttls, **planned.shorter_ttls},
        actual.source_retention if planned.source_retention is None else planned.source_retention,
        actual.rejected_retention if planned.rejected_retention is None else planned.rejected_retention,
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("90s", 90), ("2m", 120), ("12h", 43_200), ("35d", 35 * DAY), ("1w", 7 * DAY)],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1.5d", "1y", "d", "٣d", "1 d", "99999999999"])
def test_what_is_no_duration_is_none(text: str) -> None:
    assert duration_seconds(text) is None


def test_durations_are_shown_whole() -> None:
    assert duration_text(35 * DAY) == "35 days"
    assert duration_text(DAY + 3600 + 61) == "1 day 1 hour 1 minute 1 second"
    assert duration_text(0) == "0 seconds"


@pytest.mark.parametrize("name", ["horizon", "horizon-seconds", "HORIZON_SECONDS"])
def test_names_may_be_short(name: str) -> None:
    assert parsed(name, "60d") == ("horizon_seconds", 60 * DAY)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("partition_count", "12", "'Changing the partition count'"),
        ("topic_id", "x", "'A topic was created again'"),
        ("cluster_id", "x", "'Moving to another cluster'"),
        ("horizont", "60d", "not a stored setting.*horizon_seconds"),
        ("horizon", "60 days", "whole seconds"),
        ("decoder_version", "4", "one of 1, 2, 3"),
    ],
)
def test_each_refusal_names_the_setting(name: str, text: str, message: str) -> None:
    with pytest.raises(InvalidSettings, match=message) as refused:
        parsed(name, text)
    assert "\n" not in str(refused.value)


def test_records_must_be_kept_for_as_long_as_a_retry_may_come() -> None:
    with pytest.raises(InvalidSettings, match="record_retention_seconds 8640000 is too short"):
        plan(ACTUAL, {"horizon_seconds": 90 * DAY})
    planned = plan(ACTUAL, {"horizon_seconds": 90 * DAY, "record_retention_seconds": 120 * DAY})
    assert planned.longer_ttls == dict.fromkeys(TABLES, 120 * DAY)
    assert planned.needs_rest


def test_what_is_as_wanted_is_left_alone() -> None:
    assert plan(ACTUAL, {"horizon_seconds": 35 * DAY, "record_retention_seconds": 100 * DAY}).is_empty
    assert plan(ACTUAL, {"horizon_seconds": 35 * DAY}).effects == ()


def test_nothing_is_deleted_earlier_without_being_asked() -> None:
    longer = replace(ACTUAL, ttls={"usage_records": 200 * DAY, "usage_duplicates": None}, rejected_retention=-1)
    assert plan(longer, {"grace_seconds": 60}).shorter_ttls == {}
    asked = plan(longer, {"record_retention_seconds": 100 * DAY})
    assert asked.shorter_ttls == dict.fromkeys(TABLES, 100 * DAY)
    assert plan(longer, {"source_retention_seconds": 7 * DAY}).rejected_retention is None


def test_a_topic_that_keeps_too_long_is_mended_whatever_is_changed() -> None:
    forever = replace(ACTUAL, source_retention=-1)
    assert plan(forever, {"grace_seconds": 60}).source_retention == 14 * DAY * 1000
    # A shorter one is somebody's choice.
    assert plan(replace(ACTUAL, source_retention=DAY * 1000), {"grace_seconds": 60}).source_retention is None


def test_only_the_hold_of_unknown_schemas_needs_no_rest() -> None:
    planned = plan(ACTUAL, {"unknown_schema_hold_seconds": 0})
    assert not planned.needs_rest
    assert "until somebody decides" in planned.effects[0]


@pytest.mark.parametrize("name", CHANGEABLE)
def test_every_change_says_what_follows(name: str) -> None:
    value: int | str = "1" if name == "decoder_version" else 2 * DAY
    value = 99 * DAY if name == "record_retention_seconds" else value
    planned = plan(ACTUAL, {name: value})
    assert {change.name for change in planned.changes} == {name}
    assert planned.effects


def test_a_longer_memory_needs_the_records_of_that_time() -> None:
    now = 1_000 * DAY * 1_000_000
    new = replace(RULES, horizon_seconds=80 * DAY)
    needed = history_needed(RULES, new)
    assert needed == 95 * DAY + 300
    require_history(needed, now - needed * 1_000_000, now)
    with pytest.raises(InvalidSettings, match=r"records before .* have expired"):
        require_history(needed, now - needed * 1_000_000 + 1, now)
    assert history_needed(new, RULES) is None


SECONDS = [name for name in CHANGEABLE if name != "decoder_version"]


@given(
    st.dictionaries(st.sampled_from(SECONDS), st.integers(0, 400 * DAY), min_size=1),
    st.sampled_from([None, 10 * DAY, 100 * DAY, 300 * DAY]),
    st.sampled_from([-1, DAY * 1000, 14 * DAY * 1000, 100 * DAY * 1000]),
)
def test_whatever_is_accepted_keeps_records_long_enough_and_is_done_once(
    wanted: dict[str, Any], ttl: int | None, retention: int
) -> None:
    actual = replace(ACTUAL, ttls={"usage_records": ttl}, source_retention=retention)
    try:
        planned = plan(actual, wanted)
    except InvalidSettings:
        return
    done = after(actual, planned)
    kept = done.ttls["usage_records"]
    assert kept is None or kept >= done.rules.record_retention_seconds
    assert 0 <= done.source_retention <= done.rules.source_retention_seconds * 1000
    assert plan(done, wanted).is_empty
