"""What the commands of thresholds say, and why a threshold rests: pure texts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_type_hints

import pytest

from meterfold_cli.commands import threshold as command
from meterfold_cli.wording.thresholds import OPTIONS, exists
from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.errors import InvalidDefinition
from meterfold_schemas.periods import KEPT
from meterfold_service.contents import differences
from meterfold_service.errors import ThresholdExists
from meterfold_service.thresholds.resting import condition
from meterfold_service.thresholds.scope import watched
from meterfold_sink.thresholds import Definers, Rival, SubjectGroup, WatchedSubjects

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def threshold(**changes: Any) -> UsageThreshold:
    values = {"id": "t1", "metric_key": "tokens", "name": "q", "threshold": 100, "period_type": "monthly"}
    return UsageThreshold(**{**values, "created_at": NOW, "updated_at": NOW, **changes})


def conflict(known: UsageThreshold, wanted: UsageThreshold, given: set[str]) -> str:
    return exists(ThresholdExists(known, differences(known, wanted, given)))


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ((None, None, None), "every subject of every organization"),
        ((None, "user", None), "every user of every organization"),
        (("", "user", "ada"), "user ada without an organization"),
        (("acme", "user", "ada"), "user ada of organization acme"),
    ],
)
def test_whom_a_threshold_watches(scope: tuple[str | None, str | None, str | None], words: str) -> None:
    assert watched(*scope) == words


def test_every_option_of_a_threshold_exists_and_every_changeable_field_has_one() -> None:
    own = {"id", "metric_key", "created_at", "updated_at", "version"}
    assert OPTIONS.keys() == UsageThreshold.model_fields.keys() - own
    offered = set()
    for function in (command.create, command.update):
        for hint in get_type_hints(function, include_extras=True).values():
            for option in getattr(hint, "__metadata__", ()):
                offered |= {part for name in getattr(option, "param_decls", ()) or () for part in name.split("/")}
        offered |= {f"--{name.replace('_', '-')}" for name in get_type_hints(function)}
    assert set(OPTIONS.values()) <= offered


def test_what_differs_is_named_with_the_command_that_changes_it() -> None:
    known = threshold(action="block", notify_emails=("a@b.c",))
    text = conflict(known, threshold(threshold="250.5", id="new"), {"threshold"})
    assert text == (
        "the threshold 'q' on tokens for every subject of every organization exists (id t1) and differs: "
        "--value is 100, not 250.5. Change it with `meterfold threshold update t1 --value 250.5`."
    )


def test_defaults_are_named_where_nothing_else_differs() -> None:
    text = conflict(threshold(action="block", notify_emails=("a@b.c",)), threshold(id="new"), {"threshold"})
    assert "--action is block, not alert (the default), --email is a@b.c, not empty (the default)." in text


def test_a_period_is_never_changed() -> None:
    text = conflict(threshold(), threshold(period_type="daily", is_active=False), {"period_type", "is_active"})
    assert "`meterfold threshold update t1 --inactive`" in text
    assert (
        "The period cannot change: use another --name, or delete it first with `meterfold threshold delete t1`" in text
    )
    assert "update t1" not in conflict(threshold(), threshold(period_type="daily"), {"period_type"})


def test_a_command_line_is_quoted_for_the_shell() -> None:
    wanted = threshold(metadata={"plan": "pro plus"}, notify_emails=("a@b.c", "d@e.f"))
    text = conflict(threshold(), wanted, {"metadata", "notify_emails"})
    assert """--email a@b.c --email d@e.f --metadata '{"plan":"pro plus"}'`""" in text


def test_a_name_that_is_taken() -> None:
    assert "exists (id t1): choose another name" in exists(ThresholdExists(threshold()))


def test_the_periods_that_are_offered_are_those_that_can_be_watched() -> None:
    assert [period.value for period in command.KeptPeriod] == [period.value for period in KEPT]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (WatchedSubjects(1, 5, 1, 0, 0), "it watches 1 subject now"),
        (WatchedSubjects(1200, 5000, 1202, 2, 0), "1,200 subjects now; narrower thresholds named 'q' watch 2 more"),
        (WatchedSubjects(0, 0, 0, 0, 0), "warning: it watches no subject now: tokens has no usage yet"),
        (
            WatchedSubjects(0, 9, 3, 2, 1),
            "of 3 subjects that match, narrower thresholds named 'q' watch 2 and metric tokens is not active for 1",
        ),
        (
            WatchedSubjects(0, 9, 0, 0, 0, (SubjectGroup("acme", "user", 6), SubjectGroup("", "team", 1))),
            "tokens has usage of 6 subjects of type user in organization acme, 1 subject of type team without an "
            "organization, 2 more",
        ),
    ],
)  # fmt: skip
def test_how_many_subjects_are_watched(found: WatchedSubjects, words: str) -> None:
    assert command.watches(threshold(), found).endswith(words)


def test_an_error_of_a_definition_names_the_options() -> None:
    with pytest.raises(InvalidDefinition) as caught, command.option_names():
        threshold(threshold=-5)
    assert str(caught.value) == "--value: -5 must be greater than 0"
    with pytest.raises(InvalidDefinition) as caught, command.option_names():
        threshold(notify_emails=("x",), notify_webhook="ftp://x")
    assert str(caught.value) == "--email: 'x' is not an e-mail address; --webhook: give an http or https URL"
    with pytest.raises(InvalidDefinition, match=r"^--period: weekly") as caught, command.option_names():
        threshold(period_type="weekly")
    assert caught.value.code == "PERIOD_NOT_KEPT"
    with pytest.raises(InvalidDefinition, match=r"^about nothing$"), command.option_names():
        raise InvalidDefinition("about nothing")


def row(org_id: str | None = None, *, is_active: bool = True) -> dict[str, Any]:
    return {"metric_key": "tokens", "org_id": org_id, "is_active": is_active}


@pytest.mark.parametrize(
    ("org_id", "definers", "reason"),
    [
        (None, Definers({"": True}), None),
        (None, Definers({}), "metric tokens is not defined"),
        (None, Definers({"": False}), "metric tokens is inactive"),
        ("", Definers({}, 2, ("acme", "b")), "metric tokens is not defined"),
        ("acme", Definers({}), "metric tokens is not defined"),
        ("acme", Definers({}, 1, ("other",)), "metric tokens is not defined for organization acme"),
        ("acme", Definers({"": True, "acme": False}), "metric tokens is inactive for organization acme"),
        ("acme", Definers({"": False, "acme": True}), None),
        ("acme", Definers({"": False}), "metric tokens is inactive"),
    ],
)
def test_why_a_threshold_rests(org_id: str | None, definers: Definers, reason: str | None) -> None:
    assert condition(row(org_id), definers).resting == reason
    assert condition(row(org_id, is_active=False), definers).resting == "the threshold is inactive"


def test_what_limits_a_threshold_that_judges() -> None:
    some = condition(row(), Definers({"": False}, 5, ("a", "b", "c")))
    assert (some.resting, some.notes) == (
        None,
        ("metric tokens is inactive for every organization: only a, b, c and 2 more, which define it, are watched",),
    )
    own = Rival("t2", "acme", "user", None)
    beside = condition(row(), Definers({"": True}), (2, [own]), (1, [Rival("t3", None, None, None)]))
    assert beside.notes == (
        "replaced by narrower thresholds of the same name: t2 (every user of organization acme) and 1 more",
        "has the name and subjects of t3: both judge, so delete one",
    )
