"""Stored windows judged again against what threshold.state says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from meterfold_processor.checker.definitions import DefinitionRecord, Definitions, DefinitionsRead
from meterfold_processor.checker.judge import Judgement, Target
from meterfold_processor.checker.judged import JudgedState, ReadPositions, Terms
from meterfold_processor.checker.panes import Window
from meterfold_processor.checker.records import Records
from meterfold_processor.checker.rules import NEVER, WindowRules
from meterfold_processor.columns.tables import WINDOWS
from meterfold_processor.verify.states import Compared, compare, read_states
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.periods import Period
from meterfold_schemas.quantities import UNIT, to_decimal
from meterfold_schemas.topics import Topics
from meterfold_schemas.vocabulary import Action

TOPIC = "threshold.state"
DAY = 86_400_000_000
NOW = datetime(2026, 5, 1, tzinfo=UTC)
RULES = WindowRules(open_for=10 * DAY, grace=0)


def definitions(*, is_active: bool = True) -> Definitions:
    metric = MetricDefinition(id="m", key="calls", name="calls", unit="call", created_at=NOW, updated_at=NOW)
    threshold = UsageThreshold(  # type: ignore[call-arg]
        id="t1",
        org_id="acme",
        metric_key="calls",
        name="cap",
        threshold=100,
        period_type=Period.LIFETIME,
        is_active=is_active,
        created_at=NOW,
        updated_at=NOW,
    )
    known = Definitions()
    known.apply(
        DefinitionsRead(
            (
                DefinitionRecord("metric", metric.message_key, metric.to_bytes(), 0),
                DefinitionRecord("threshold", threshold.message_key, threshold.to_bytes(), 0),
            ),
            1,
            1,
        )
    )
    return known


def target(subject_id: str) -> Target:
    return Target("t1", Window(("acme", "calls", "user", subject_id), Period.LIFETIME, 0, NEVER))


def stored(subject_id: str, total: int, through: int = 5) -> dict[str, Any]:
    amounts = dict.fromkeys(("sum", "min", "max", "last"), to_decimal(total * UNIT))
    return {
        "org_id": "acme",
        "metric_key": "calls",
        "subject_type": "user",
        "subject_id": subject_id,
        "period_type": 4,
        "period_start": datetime.fromtimestamp(0, UTC),
        "partition": 0,
        "record_count": 1,
        **amounts,
        "last_timestamp": NOW,
        "last_offset": through,
        "folded_through": through,
    }


def state(subject_id: str, level: int, value: int, through: int = 5) -> tuple[bytes, bytes]:
    """Key and value as the checker writes them."""
    terms = Terms("cap", 100 * UNIT, 80 * UNIT, Action.ALERT)
    judged = JudgedState(level, (int(level > 0), int(level > 1)), ReadPositions(through, 1, 1), value * UNIT, terms)
    message = Records(Topics(), 0).judgement(Judgement(target(subject_id), judged, ()), 1)[0]
    return message.key or b"", message.value or b""


def judged(
    windows: list[dict[str, Any]],
    states: list[tuple[bytes, bytes]],
    known: Definitions | None = None,
    published_below: int = 6,
) -> Compared:
    table = pa.Table.from_pylist(windows, schema=WINDOWS)
    newest: dict[bytes, bytes | None] = dict(states)
    return compare(
        TOPIC, 0, known or definitions(), RULES, read_states(TOPIC, 0, newest), [table], 20 * DAY, published_below
    )


def told(compared: Compared) -> list[tuple[str, str, str]]:
    """(subject, expected level, judged level), by subject."""
    return sorted(
        (f.window.subject_id if f.window else "", f.expected.split(" ")[0], f.found.split(" ")[0])
        for f in compared.findings
    )


def test_levels_that_follow_from_their_windows_say_nothing() -> None:
    windows = [stored("none", 79), stored("near", 80), stored("over", 100), stored("fallen", 1)]
    states = [state("near", 1, 80), state("over", 2, 120, 3), state("fallen", 0, 3, 4)]
    compared = judged(windows, states)
    assert (told(compared), compared.in_flight, compared.windows) == ([], [], 4)


def test_levels_that_do_not_are_named() -> None:
    windows = [stored("missed", 100), stored("still", 10), stored("jumped", 101)]
    compared = judged(windows, [state("still", 1, 85, 4), state("jumped", 1, 85, 4)])
    assert told(compared) == [
        ("jumped", "exceeded", "approaching"),
        ("missed", "exceeded", "no"),
        ("still", "none", "approaching"),
    ]
    assert all(finding.name == "threshold t1" for finding in compared.findings)


def test_a_row_that_may_not_be_published_yet_is_in_flight() -> None:
    compared = judged([stored("u1", 100, 6)], [], published_below=6)
    assert (told(compared), len(compared.in_flight)) == ([], 1)
    assert len(judged([stored("u1", 100, 5)], [], published_below=6).findings) == 1


def test_a_threshold_that_does_not_apply_any_more_has_level_none() -> None:
    inactive = definitions(is_active=False)
    assert told(judged([stored("u1", 150)], [state("u1", 2, 150)], inactive)) == [("u1", "none", "exceeded")]
    assert told(judged([stored("u1", 150)], [state("u1", 0, 150)], inactive)) == []


def test_windows_that_went_back_or_are_gone_are_named() -> None:
    compared = judged([stored("back", 90, 4)], [state("back", 1, 90, 5), state("gone", 1, 90)])
    assert [(f.place, f.expected, f.found) for f in compared.findings] == [
        ("usage_windows", "at least 5", "4"),
        ("usage_windows", "a window folded through at least 5", "no window"),
    ]


def test_a_value_that_is_no_state_is_named() -> None:
    (finding,) = judged([], [(b"key", b"junk")]).findings
    assert (finding.place, finding.name, finding.expected) == (TOPIC, "key", "a state")
