"""`meterfold threshold` with a fold and a checker on the real stack: whom a threshold watches, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from meterfold import Meter
from support import eventually
from support.cli import answer, inside, running


@pytest.fixture
def env(tables: None, stack_environment: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    answer("migrate", "--partitions", "2", env=stack_environment)
    with (
        running("check", env=stack_environment, folder=tmp_path, ready="check: ready"),
        running("fold", env=stack_environment, folder=tmp_path, ready="fold: ready"),
    ):
        yield stack_environment


def use(env: dict[str, str], *events: tuple[str, str, int]) -> None:
    """(org_id, subject_id, quantity) of tokens; returns once ClickHouse has them."""
    with mock.patch.dict(os.environ, env), Meter() as meter:
        for org_id, subject_id, quantity in events:
            meter.record("tokens", ("user", subject_id), quantity, org_id=org_id)
    answer("verify", "--wait", "60", "--no-contents", env=env)


def listed(env: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in answer("threshold", "list", env=env)["rows"]}


def shown(row: dict[str, Any]) -> dict[str, str]:
    return {window["org_id"]: window["level"] for window in row["standing"]["windows"]}


def levels(row: dict[str, Any]) -> dict[str, str]:
    """Those that hold, by organization."""
    return {org_id: level for org_id, level in shown(row).items() if level != "none"}


def test_a_threshold_without_an_organization_watches_every_organization(env: dict[str, str]) -> None:
    answer("metric", "define", "tokens", "--name", "Tokens", "--unit", "tokens", env=env)
    early = inside("threshold", "create", "tokens", "--name", "early", "--value", "9", env=env)
    assert "warning: it watches no subject now: tokens has no usage yet" in early.stderr
    use(env, ("acme", "ada", 3000), ("other", "ada", 2600), ("", "ada", 100), ("acme", "bob", 1))
    quota = ("threshold", "create", "tokens", "--name", "q")
    wide = answer(*quota, "--value", "2500", env=env)
    assert (wide["org_id"], wide["watched_subjects"]) == (None, 4)
    reached = {"acme": "exceeded", "other": "exceeded"}
    eventually(lambda: levels(listed(env)[wide["id"]]) == reached, 60, "both organizations are judged")
    # One of the organization takes its place there, and nowhere else.
    own = answer(*quota, "--value", "1000000", "--org", "acme", env=env)
    assert own["watched_subjects"] == 2
    eventually(lambda: levels(listed(env)[wide["id"]]) == {"other": "exceeded"}, 60, "acme has its own")
    (note,) = listed(env)[wide["id"]]["notes"]
    assert f"{own['id']} (every subject of organization acme)" in note
    # The empty organization means subjects without one, alone.
    without = answer("threshold", "create", "tokens", "--name", "guests", "--value", "50", "--org", "", env=env)
    assert (without["org_id"], without["watched_subjects"]) == ("", 1)
    eventually(lambda: levels(listed(env)[without["id"]]) == {"": "exceeded"}, 60, "only those without one")
    # One subject's id in several organizations: each of them is shown, judged or not.
    ada = ("--subject-type", "user", "--subject-id", "ada")
    named = answer("threshold", "create", "tokens", "--name", "ada", "--value", "2900", *ada, env=env)
    assert named["watched_subjects"] == 3
    everywhere = {"acme": "exceeded", "other": "approaching", "": "none"}
    eventually(lambda: shown(listed(env)[named["id"]]) == everywhere, 60, "every ada is shown")
    elsewhere = inside("threshold", "create", "tokens", "--name", "x", "--value", "9", "--org", "nobody", env=env)
    assert elsewhere.returncode == 0
    assert "no subject now: tokens has usage of 2 subjects of type user in organization acme, 1 sub" in elsewhere.stderr
    table = inside("threshold", "list", env=env).stdout
    for words in ("every subject of every organization", "every subject without an organization", "judging"):
        assert words in table, table
    answer("verify", "--wait", "60", "--no-contents", env=env)


def test_an_organization_is_judged_by_its_own_metric(env: dict[str, str]) -> None:
    only = ("metric", "define", "tokens", "--name", "Tokens", "--unit", "tokens", "--org", "acme")
    answer(*only, "--aggregation", "max", env=env)
    missing = inside("threshold", "create", "tokens", "--name", "q", "--value", "5", env=env)
    assert (missing.returncode, "METRIC_NOT_FOUND" in missing.stderr) == (1, True)
    assert "not defined for every organization, only for organization acme: name it with --org acme" in missing.stderr
    unknown = inside("threshold", "create", "tokns", "--name", "q", "--value", "5", env=env)
    assert "metric 'tokns' is not defined: did you mean 'tokens'?" in unknown.stderr
    answer("metric", "define", "tokens", "--name", "Tokens", "--unit", "tokens", env=env)
    use(env, ("acme", "ada", 6), ("acme", "ada", 6), ("other", "ada", 6), ("other", "ada", 6))
    wide = answer("threshold", "create", "tokens", "--name", "q", "--value", "10", "--warn", "99%", env=env)
    eventually(lambda: levels(listed(env)[wide["id"]]) == {"other": "exceeded"}, 60, "the sum is, the maximum is not")
    answer("threshold", "update", wide["id"], "--value", "6", "--warn", "99%", env=env)
    both = {"acme": "exceeded", "other": "exceeded"}
    eventually(lambda: levels(listed(env)[wide["id"]]) == both, 60, "the maximum reaches 6")


def test_a_second_threshold_of_one_name_is_refused(env: dict[str, str]) -> None:
    answer("metric", "define", "tokens", "--name", "Tokens", "--unit", "tokens", env=env)
    quota = ("threshold", "create", "tokens", "--name", "q", "--subject-type", "user")
    first = answer(*quota, "--value", "100", env=env)
    assert answer(*quota, "--value", "100", env=env)["id"] == first["id"]
    assert answer(*quota, "--value", "100.0", "--warn", "80 %", env=env)["id"] == first["id"]
    other = inside(*quota, "--value", "250.5", "--action", "block", env=env)
    assert (other.returncode, "THRESHOLD_EXISTS" in other.stderr) == (1, True)
    assert "--value is 100, not 250.5, --action is alert, not block." in other.stderr
    assert f"`meterfold threshold update {first['id']} --value 250.5 --action block`" in other.stderr
    period = inside(*quota, "--value", "100", "--period", "daily", env=env)
    assert f"`meterfold threshold delete {first['id']}`" in period.stderr
    assert "THRESHOLD_EXISTS" in period.stderr
    changed = answer("threshold", "update", first["id"], "--value", "250.5", "--action", "block", env=env)
    assert (changed["threshold"], changed["warn_threshold"]) == ("250.5", "200.4")
    default = inside(*quota, "--value", "250.5", env=env)
    assert "--action is block, not alert (the default)." in default.stderr
    # Another scope, another name: others.
    answer(*quota, "--value", "9", "--org", "acme", env=env)
    second = answer("threshold", "create", "tokens", "--name", "r", "--subject-type", "user", "--value", "9", env=env)
    taken = inside("threshold", "update", second["id"], "--name", "q", env=env)
    assert (taken.returncode, "THRESHOLD_EXISTS" in taken.stderr, first["id"] in taken.stderr) == (1, True, True)
    assert listed(env)[second["id"]]["name"] == "r"


def test_wrong_values_name_their_options(env: dict[str, str]) -> None:
    answer("metric", "define", "tokens", "--name", "T", "--unit", "t", "--reset-period", "weekly", env=env)
    create = ("threshold", "create", "tokens", "--name", "q")
    for arguments, words in (
        (("--value", "-5"), "meterfold: --value: -5 must be greater than 0 [INVALID_DEFINITION]"),
        (("--value", "x"), "--value: quantity 'x' is not a decimal number"),
        (("--value", "5"), "--period: weekly windows are derived when read and cannot be watched"),
        (("--value", "5", "--warn", "5", "--period", "daily"), "--warn: 5 must be below the threshold, 5"),
        (("--value", "5", "--warn", "120%", "--period", "daily"), "--warn: '120%' must be a percentage above 0"),
        (("--value", "5", "--period", "weekly"), "'weekly' is not one of 'hourly', 'daily', 'monthly', 'lifetime'"),
        (("--value", "5", "--subject-id", "u"), "--subject-id needs --subject-type"),
    ):
        done = inside(*create, *arguments, env=env)
        assert (done.returncode, words in done.stderr) == (2, True), (arguments, done.stderr)
    assert listed(env) == {}
    made = answer(*create, "--value", "5", "--warn", "60%", "--period", "daily", env=env)
    assert made["warn_threshold"] == "3"
    assert answer("threshold", "update", made["id"], "--warn", "40 %", env=env)["warn_threshold"] == "2"


def test_the_list_says_why_a_threshold_rests(env: dict[str, str]) -> None:
    answer("metric", "define", "tokens", "--name", "Tokens", "--unit", "tokens", env=env)
    use(env, ("acme", "ada", 3000))
    made = answer("threshold", "create", "tokens", "--name", "q", "--value", "10", env=env)["id"]
    eventually(lambda: levels(listed(env)[made]) == {"acme": "exceeded"}, 60, "it judges")
    assert listed(env)[made]["resting"] is None
    for command, reason in (
        (("threshold", "update", made, "--inactive"), "the threshold is inactive"),
        (("threshold", "update", made, "--active"), None),
        (("metric", "update", "tokens", "--inactive"), "metric tokens is inactive"),
        (("metric", "update", "tokens", "--active"), None),
        (("metric", "delete", "tokens"), "metric tokens is not defined"),
    ):
        done = inside(*command, env=env)
        if done.returncode == 2 and "--yes" in done.stderr:
            done = inside(*command, "--yes", env=env)
        assert done.returncode == 0, done.stderr
        assert listed(env)[made]["resting"] == reason
    assert "resting: metric tokens is not defined" in inside("threshold", "list", env=env).stdout
    eventually(lambda: levels(listed(env)[made]) == {}, 60, "what it had raised is cleared")
    own = ("metric", "define", "tokens", "--name", "Tokens", "--unit", "tokens", "--org", "acme")
    answer(*own, env=env)
    row = listed(env)[made]
    assert row["resting"] is None
    assert row["notes"] == [
        "metric tokens is not defined for every organization: only acme, which defines it, is watched"
    ]
