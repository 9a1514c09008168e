"""`meterfold metric` and `meterfold threshold` with a checker on the real stack."""

from __future__ import annotations

from pathlib import Path

from stack_support.cli import answer, inside, running


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
        assert (changed["aggregation_type"], changed["is_active"], changed["version"]) == ("max", False, 1)
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
        assert answer("metric", "list", env=env) == {"total": 0, "rows": []}
        unknown = inside("metric", "delete", "api.calls", env=env)
        assert (unknown.returncode, "METRIC_NOT_FOUND" in unknown.stderr) == (1, True)
        wrong = inside("metric", "define", "API", "--name", "x", "--unit", "x", env=env)
        assert (wrong.returncode, "metric_key 'API'" in wrong.stderr) == (2, True)
        assert checker.terminate(15) == 0
        assert "check: stopped" in checker.output()
