"""How a fingerprint that is met for the first time is decided: by what is stored, and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from meterfold_processor.fold.schemas import (
    Decided,
    Recognized,
    Schemas,
    Wait,
    Write,
    always_read,
    decided,
    look,
    next_step,
)
from meterfold_schemas import catalog
from meterfold_schemas.schema_keys import key_of
from meterfold_sink.schema_decisions import POISON, SchemaFacts

FINGERPRINT = bytes(range(8))
ID = key_of(7)
SCHEMA = catalog.latest("usage_recorded")
SETTLED = 100.0


def seen(age: float, *, waits: bool = False) -> SchemaFacts:
    return SchemaFacts(seen_at=datetime(2026, 1, 1, tzinfo=UTC), seen_age=age, waits=waits)


def test_a_known_one_is_written_down_at_once_and_an_unknown_one_when_it_was_seen() -> None:
    assert next_step(None, SCHEMA, 3600, "here") == Write(
        "decision", "usage_recorded.v1", "a version of meterfold that knows the schema"
    )
    assert next_step(None, None, 3600, "here") == Write("seen", "", "here")


def test_an_unknown_one_is_poison_after_the_hold_time_by_a_stored_decision() -> None:
    step = next_step(seen(3599.0), None, 3600, "here")
    assert isinstance(step, Wait)
    assert step.seconds == 1.0
    assert next_step(seen(3600.0), None, 3600, "here") == Write(
        "decision", POISON, "no decision within the hold time of 3600 s"
    )


@pytest.mark.parametrize("facts", [seen(10**9, waits=True), seen(10**9)])
def test_it_waits_for_ever_where_an_operator_or_the_policy_says_so(facts: SchemaFacts) -> None:
    step = next_step(facts, None, 3600 if facts.waits else 0, "here")
    assert isinstance(step, Wait)
    assert step.seconds is None


def test_a_decision_takes_effect_when_no_earlier_one_can_turn_up_any_more() -> None:
    young = SchemaFacts(decision=POISON, decision_age=4.0)
    assert next_step(young, SCHEMA, 3600, "here", settle=5.0) == Wait(
        "its decision takes effect in some seconds", 1.0, settling=True
    )
    old = SchemaFacts(decision=POISON, decision_age=5.0)
    assert next_step(old, SCHEMA, 3600, "here", settle=5.0) == Decided(None)


def test_what_is_stored_wins_over_what_a_version_knows() -> None:
    """An upgrade must not count on replay what was rejected, nor reject what was counted."""
    assert next_step(SchemaFacts(decision=POISON, decision_age=SETTLED), SCHEMA, 3600, "") == Decided(None)
    alias = SchemaFacts(decision="usage_recorded.v1", decision_age=SETTLED)
    assert next_step(alias, None, 3600, "") == Decided(SCHEMA)
    assert decided({FINGERPRINT: alias}).read == {**always_read(), FINGERPRINT: SCHEMA}


@pytest.mark.parametrize("label", ["usage_recorded.v2", "metric_defined.v1", "nonsense"])
def test_a_decision_for_a_schema_that_this_version_lacks_holds(label: str) -> None:
    facts = SchemaFacts(decision=label, decision_age=SETTLED)
    step = next_step(facts, SCHEMA, 3600, "")
    assert isinstance(step, Wait)
    assert label in step.why
    assert decided({FINGERPRINT: facts}) == Schemas()


def test_a_look_writes_reads_back_and_obeys_what_won() -> None:
    """Somebody else's decision is there first."""
    stored: dict[bytes, SchemaFacts] = {}
    written: list[Write] = []

    def write(fingerprint: bytes, step: Write) -> None:
        written.append(step)
        stored[fingerprint] = SchemaFacts(decision=POISON, decision_age=SETTLED)

    step, found = look(FINGERPRINT, lambda: Recognized(SCHEMA), 3600, "here", lambda: dict(stored), write)
    assert written == [Write("decision", "usage_recorded.v1", "a version of meterfold that knows the schema")]
    assert step == Decided(None)
    assert found == stored
    assert decided(found).poison == {FINGERPRINT}


def test_a_look_at_an_unknown_one_notes_it_and_waits() -> None:
    stored: dict[bytes, SchemaFacts] = {}

    def write(fingerprint: bytes, step: Write) -> None:
        assert step == Write("seen", "", "here")
        stored[fingerprint] = seen(0.0)

    def read() -> Mapping[bytes, SchemaFacts]:
        return dict(stored)

    step, _ = look(FINGERPRINT, lambda: Recognized(None), 60, "here", read, write)
    assert step == Wait("it is rejected in 60 s unless something else is decided", 60.0)


def test_a_look_asks_a_registry_only_about_what_is_not_decided() -> None:
    stored: dict[bytes, SchemaFacts] = {}
    asked: list[str] = []

    def recognize() -> Recognized:
        asked.append("registry")
        return (
            Recognized(SCHEMA, "schema 7 of the Schema Registry http://r")
            if len(asked) > 1
            else Recognized(None, "away")
        )

    def write(key: bytes, step: Write) -> None:
        stored[key] = seen(0.0) if step.fact == "seen" else SchemaFacts(decision=step.value, decision_why=step.detail)

    def one_look() -> Wait | Decided:
        return look(ID, recognize, 60, "here", lambda: dict(stored), write)[0]

    assert one_look() == Wait("away; it is rejected in 60 s unless something else is decided", 60.0)
    assert one_look() == Wait("its decision takes effect in some seconds", 5.0, settling=True)
    assert stored[ID].decision_why == "schema 7 of the Schema Registry http://r"
    stored[ID] = replace(stored[ID], decision_age=SETTLED)
    assert one_look() == Decided(SCHEMA)
    assert len(asked) == 2
    assert decided(stored, confluent=True).read == {**always_read(), ID: SCHEMA}


def test_the_first_version_is_always_read_and_its_aliases_are_not() -> None:
    assert set(Schemas().read) == {bytes.fromhex("bb032367be8b7bf0")}
    assert decided({}) == Schemas()
