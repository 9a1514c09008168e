"""`meterfold metric` and `meterfold threshold` with a checker on the real stack."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

from meterfold import Meter
from support import eventually
from support.cli import answer, inside, running


def test_metrics_and_thresholds_are_defined_changed_listed_and_deleted(
    stack_environment: dict[str, str], tmp_path: Path
) -> None:
    env = stack_environment
    answer("migrate", "--partitions", "2", env=env)
    calls = ("api.calls", "--name", "API calls", "--unit", "calls")
    with running("check", env=env, folder=tmp_path, ready="check: ready") as checker:
        first = answer("metric", "define", *calls, env=env)
        assert (first["key"], first["aggregation_type"], first["version"]) == ("api.calls", "sum", 0)
        assert answer("metric", "define", *calls, env=env) == first
        other = inside("metric", "define", "api.calls", "--name", "Other", "--unit", "calls", env=env)
        assert other.returncode == 1
        assert "METRIC_KEY_EXISTS" in other.stderr
        changed = answer("metric", "update", "api.calls", "--aggregation", "max", "--inactive", env=env)
        assert (changed["aggregation_type"], changed["is_active"], changed["id"]) == ("max", False, first["id"])
        assert changed["version"] > first["version"]
        shown = answer("metric", "get", "api.calls", "--org", "acme", env=env)
        assert (shown["key"], shown["org_id"], shown["aggregation_type"], shown["version"]) == (
            "api.calls",
            "",
            "max",
            changed["version"],
        )
        own = answer("metric", "define", *calls, "--org", "acme", "--aggregation", "last", env=env)
        seen = [answer("metric", "get", "api.calls", "--org", org, env=env) for org in ("acme", "other", "")]
        assert [(row["id"], row["aggregation_type"]) for row in seen] == [
            (own["id"], "last"),
            (first["id"], "max"),
            (first["id"], "max"),
        ]
        answer("metric", "delete", "api.calls", "--org", "acme", env=env)
        missing = inside("metric", "get", "unknown", env=env)
        assert (missing.returncode, "METRIC_NOT_FOUND" in missing.stderr) == (1, True)
        assert "aggregation_type" in inside("metric", "get", "api.calls", env=env).stdout
        listed = answer("metric", "list", env=env)
        assert (listed["total"], listed["rows"][0]["aggregation_type"]) == (1, "max")
        assert answer("metric", "list", "--active", env=env)["total"] == 0

        quota = ("api.calls", "--name", "quota", "--value", "0.3", "--warn", "0.1", "--subject-type", "user")
        threshold = answer("threshold", "create", *quota, "--email", "a@b.c", env=env)
        assert (threshold["threshold"], threshold["warn_threshold"], threshold["notify_emails"]) == (
            "0.3",
            "0.1",
            ["a@b.c"],
        )
        raised = answer("threshold", "update", threshold["id"], "--value", "12345678901234567890.123456789", env=env)
        assert raised["threshold"] == "12345678901234567890.123456789"
        assert [row["threshold"] for row in answer("threshold", "list", env=env)["rows"]] == [raised["threshold"]]
        spoken = inside("threshold", "list", "--metric", "api.calls", env=env)
        assert "every user" in spoken.stdout
        answer("threshold", "delete", threshold["id"], env=env)
        assert answer("threshold", "list", env=env)["total"] == 0
        answer("metric", "delete", "api.calls", env=env)
        assert answer("metric", "list", env=env) == {"total": 0, "rows": [], "undefined": []}
        unknown = inside("metric", "delete", "api.calls", env=env)
        assert (unknown.returncode, "METRIC_NOT_FOUND" in unknown.stderr) == (1, True)
        wrong = inside("metric", "define", "API", "--name", "x", "--unit", "x", env=env)
        assert (wrong.returncode, "metric_key 'API'" in wrong.stderr) == (2, True)
        assert checker.terminate(15) == 0
        assert "check: stopped" in checker.output()


def test_thresholds_show_their_level_and_value_now(stack_environment: dict[str, str], tmp_path: Path) -> None:
    env = stack_environment
    answer("migrate", "--partitions", "2", env=env)
    fold, check = "fold: ready", "check: ready"
    with (
        running("check", env=env, folder=tmp_path, ready=check),
        running("fold", env=env, folder=tmp_path, ready=fold),
    ):
        answer("metric", "define", "api.calls", "--name", "API calls", "--unit", "calls", env=env)
        every = ("--value", "10", "--period", "lifetime")
        wide = answer("threshold", "create", "api.calls", "--name", "all", *every, env=env)
        own = ("--subject-type", "user", "--subject-id", "eve", "--period", "monthly", "--value", "100")
        narrow = answer("threshold", "create", "api.calls", "--name", "eve", *own, env=env)
        (row,) = [row for row in answer("threshold", "list", env=env)["rows"] if row["id"] == narrow["id"]]
        assert row["standing"]["windows"] == []  # no organization has an eve yet
        alone = answer("threshold", "create", "api.calls", "--name", "alone", *own, "--org", "", env=env)
        (row,) = [row for row in answer("threshold", "list", env=env)["rows"] if row["id"] == alone["id"]]
        (window,) = row["standing"]["windows"]
        assert (window["level"], window["value"], window["percentage_used"]) == ("none", None, None)
        record = {"ada": 12, "bob": 8, "carl": 1, "eve": 3}
        with mock.patch.dict(os.environ, env), Meter() as meter:
            for subject_id, quantity in record.items():
                meter.record("api.calls", ("user", subject_id), quantity)

        def standing() -> dict[str, dict[str, Any]]:
            return {row["id"]: row["standing"] for row in answer("threshold", "list", env=env)["rows"]}

        def reached() -> bool:
            found = standing()
            counts = found[wide["id"]]["exceeded"], found[wide["id"]]["approaching"]
            return counts == (1, 1) and [w["value"] for w in found[narrow["id"]]["windows"]] == ["3"]

        eventually(reached, 60, "the levels are shown")
        found = standing()
        shown = [(w["subject_id"], w["level"], w["value"]) for w in found[wide["id"]]["windows"]]
        assert shown == [("ada", "exceeded", "12"), ("bob", "approaching", "8")]
        assert [w["percentage_used"] for w in found[wide["id"]]["windows"]] == ["120", "80"]
        (own_window,) = found[narrow["id"]]["windows"]
        assert (own_window["subject_id"], own_window["level"], own_window["value"]) == ("eve", "none", "3")
        assert own_window["period_end"] is not None
        with mock.patch.dict(os.environ, env), Meter() as meter:
            meter.record("api.calls", ("user", "ada"), -5)
        eventually(lambda: standing()[wide["id"]]["exceeded"] == 0, 60, "ada is below again")
        spoken = inside("threshold", "list", env=env)
        assert any(line.split()[-4:-1] == ["none", "7", "70"] for line in spoken.stdout.splitlines()), spoken.stdout
