"""Whom thresholds watch and what replaces them, as ClickHouse answers it, against the rule of the checker."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count, product
from typing import Any

import pyarrow as pa
import pytest

from meterfold_local.stack import LocalStack
from meterfold_processor.checker.definitions import DefinitionRecord, Definitions, DefinitionsRead
from meterfold_processor.checker.mirror_rows import TABLES, row_of
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_sink.client import Client
from meterfold_sink.threshold_levels import thresholds_of_subject
from meterfold_sink.threshold_preview import Reached, reached
from meterfold_sink.thresholds import (
    SubjectGroup,
    metric_definers,
    narrower_thresholds,
    same_thresholds,
    watched_subjects,
)
from support.sink.database import database, empty, insert
from support.sink.rows import Record, windows_of, windows_table

NOW = datetime(2026, 11, 29, tzinfo=UTC)
KEY = "tokens"
ORGS, TYPES, IDS = ("", "acme", "other"), ("user", "team"), ("s1", "s2")
SUBJECTS = list(product(ORGS, TYPES, IDS))
QUANTITIES = (79, 1, 80, 1, 100, 1)
"""Of the subjects one after the other; every second one has no usage today."""


@pytest.fixture(scope="module")
def shared(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        yield client


class Defined:
    """Definitions as the topics tell them and as the mirror writes them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.definitions = Definitions()
        self.offsets = count()

    def metric(self, org_id: str = "", *, is_active: bool = True) -> None:
        made = MetricDefinition(
            id=f"m-{org_id}", key=KEY, name=KEY, unit="token", org_id=org_id, is_active=is_active,
            created_at=NOW, updated_at=NOW,
        )  # fmt: skip
        self._tell("metric", "metric_definitions", made)

    def threshold(self, threshold_id: str, *scope: str | None, name: str = "q", is_active: bool = True) -> None:
        org_id, subject_type, subject_id = (*scope, None, None, None)[:3]
        made = UsageThreshold(  # type: ignore[call-arg]
            id=threshold_id, org_id=org_id, subject_type=subject_type, subject_id=subject_id, metric_key=KEY, name=name,
            threshold=100, period_type="daily", is_active=is_active, created_at=NOW, updated_at=NOW,
        )  # fmt: skip
        self._tell("threshold", "thresholds", made)

    def _tell(self, kind: Any, table: str, made: MetricDefinition | UsageThreshold) -> None:
        offset = next(self.offsets)
        record = DefinitionRecord(kind, made.message_key, made.to_bytes(), offset)
        self.definitions.apply(DefinitionsRead((record,), offset + 1, offset + 1))
        row = row_of(table, made.message_key, made.to_bytes(), offset)
        insert(self.client, table, pa.Table.from_pylist([row], schema=TABLES[table]))

    def judged(self, threshold_id: str) -> list[tuple[str, str, str]]:
        """The subjects that the checker judges by it."""
        return [
            (org_id, kind, name)
            for org_id, kind, name in SUBJECTS
            if threshold_id in [one.id for one in self.definitions.applicable(org_id, KEY, kind, name)]
        ]


@pytest.fixture
def defined(shared: Client) -> Defined:
    return Defined(empty(shared))


def use(client: Client, subjects: list[tuple[str, str, str]]) -> None:
    """One event of each subject, in windows that are written twice."""
    records = [
        Record(
            offset,
            NOW - timedelta(days=40 * (offset % 2)),
            QUANTITIES[offset % len(QUANTITIES)],
            org_id=org_id,
            metric_key=KEY,
            subject_type=kind,
            subject_id=name,
        )
        for offset, (org_id, kind, name) in enumerate(subjects)
    ]
    for _ in range(2):
        insert(client, "usage_windows", windows_table(windows_of(records)))


def test_it_counts_whom_the_checker_judges(defined: Defined) -> None:
    """Random definitions, among them inactive, replaced and doubled ones; the seed is in the message."""
    use(defined.client, SUBJECTS)
    for seed in range(16):
        chance = random.Random(seed)
        there = Defined(empty_definitions(defined.client))
        there.metric(is_active=chance.random() < 0.9)
        if chance.random() < 0.5:
            there.metric("acme", is_active=chance.random() < 0.5)
        for number in range(chance.randint(1, 7)):
            org_id, kind = chance.choice([None, *ORGS]), chance.choice([None, *TYPES])
            name = None if kind is None else chance.choice([None, *IDS])
            active = chance.random() < 0.85
            there.threshold(f"t{number}", org_id, kind, name, name=chance.choice("qqr"), is_active=active)
        for threshold in there.definitions.watched():
            found = watched_subjects(there.client, threshold.id)
            matching = [subject for subject in SUBJECTS if threshold.matches(*subject)]
            assert (found.watched, found.matching, found.subjects) == (
                len(there.judged(threshold.id)),
                len(matching),
                len(SUBJECTS),
            ), (seed, threshold)
        check_rivals(there, seed)
        check_subjects(there, seed)
        if seed % 4 == 0:
            check_reached(there, next(iter(there.definitions.watched())), seed)


def empty_definitions(client: Client) -> Client:
    for table in ("metric_definitions", "thresholds"):
        client.command(f"TRUNCATE TABLE {table}")
    return client


def check_reached(there: Defined, threshold: UsageThreshold, seed: int) -> None:
    judged = there.judged(threshold.id)
    today = [QUANTITIES[at % len(QUANTITIES)] for at, one in enumerate(SUBJECTS) if at % 2 == 0 and one in judged]
    levels = [(value >= 100) + (value >= 80) for value in today]
    expected = Reached(len(today), levels.count(2), levels.count(1))
    assert reached(there.client, threshold, NOW) == expected, (seed, threshold)


def check_subjects(there: Defined, seed: int) -> None:
    """Which thresholds judge each subject, and how much of each is used today."""
    for at, (org_id, kind, name) in enumerate(SUBJECTS):
        found = thresholds_of_subject(there.client, (kind, name), org_id=org_id, now=NOW)
        judging = {one.id for one in there.definitions.applicable(org_id, KEY, kind, name)}
        assert {one.threshold_id for one in found} == judging, (seed, org_id, kind, name)
        used = QUANTITIES[at % len(QUANTITIES)] if at % 2 == 0 else None
        assert {one.window.percentage_used for one in found} <= {used}, (seed, org_id, kind, name)


def check_rivals(there: Defined, seed: int) -> None:
    everyone = list(there.definitions.watched())
    narrower = narrower_thresholds(there.client, [one.id for one in everyone], limit=9)
    same = same_thresholds(there.client, [one.id for one in everyone], limit=9)
    for mine in everyone:
        rivals = [one for one in everyone if one.id != mine.id and one.is_active and one.name == mine.name]
        shared = [one for one in rivals if any(one.matches(*s) and mine.matches(*s) for s in SUBJECTS)]
        replacing = {one.id for one in shared if one.narrowness > mine.narrowness}
        doubling = {one.id for one in rivals if one.scope == mine.scope}
        for found, expected in ((narrower, replacing), (same, doubling)):
            number, rows = found.get(mine.id, (0, []))
            assert (number, {row.id for row in rows}) == (len(expected), expected), (seed, mine)


def test_none_watched_names_where_the_subjects_are(defined: Defined) -> None:
    defined.metric()
    defined.threshold("t", "", "user")
    assert watched_subjects(defined.client, "t").subjects == 0
    use(defined.client, [("acme", "user", "a"), ("acme", "user", "b"), ("", "team", "c")])
    found = watched_subjects(defined.client, "t")
    assert (found.watched, found.subjects, found.matching) == (0, 3, 0)
    assert found.groups == (SubjectGroup("acme", "user", 2), SubjectGroup("", "team", 1))
    defined.threshold("wide")
    assert watched_subjects(defined.client, "wide").watched == 3


def test_rivals_are_counted_and_only_some_are_named(defined: Defined) -> None:
    defined.metric()
    defined.threshold("wide")
    for number in range(5):
        defined.threshold(f"n{number}", "acme", "user", f"s{number}")
    number, some = narrower_thresholds(defined.client, ["wide"], limit=2)["wide"]
    assert (number, [rival.id for rival in some]) == (5, ["n0", "n1"])
    assert (some[0].org_id, some[0].subject_type, some[0].subject_id) == ("acme", "user", "s0")


def test_definers_of_a_metric(defined: Defined) -> None:
    defined.metric("acme")
    defined.metric("other", is_active=False)
    found = metric_definers(defined.client, [KEY, "unknown"], ["other"])
    assert found[KEY].by_org == {"other": False}
    assert (found[KEY].own, found[KEY].some) == (1, ("acme",))
    assert (found["unknown"].by_org, found["unknown"].own) == ({}, 0)
