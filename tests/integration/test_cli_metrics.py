"""`meterfold metric` on usage that exists: what is said and asked before totals change, and keys nobody has defined."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.client import Client, connect
from support.cli import answer, inside, running
from support.sink.database import insert
from support.sink.rows import Record, windows_of, windows_table

NOW = datetime.now(UTC).replace(microsecond=0)
CALLS = ("api.calls", "--name", "Calls", "--unit", "call")


@pytest.fixture
def env(tables: None, stack_environment: dict[str, str]) -> dict[str, str]:
    answer("migrate", "--partitions", "2", env=stack_environment)
    return stack_environment


@pytest.fixture
def client(env: dict[str, str], clickhouse_settings: ClickHouseSettings) -> Iterator[Client]:
    with connect(clickhouse_settings) as client:
        yield client


def use(client: Client, metric_key: str, *quantities: str, **more: Any) -> None:
    """One subject's events of now, as the fold stores their windows."""
    records = [Record(i, NOW, quantity, metric_key=metric_key, **more) for i, quantity in enumerate(quantities)]
    insert(client, "usage_windows", windows_table(windows_of(records)))


def totals(client: Client) -> dict[str, Decimal | None]:
    rows = client.rows("SELECT org_id, total_quantity FROM usage_monthly ORDER BY org_id")
    return {row["org_id"]: row["total_quantity"] for row in rows}


def test_a_metric_that_has_usage_changes_only_when_that_is_confirmed(
    env: dict[str, str], client: Client, tmp_path: Path
) -> None:
    with running("check", env=env, folder=tmp_path, ready="check: ready"):
        answer("metric", "define", *CALLS, "--aggregation", "max", env=env)
        threshold = answer("threshold", "create", "api.calls", "--name", "quota", "--value", "100", env=env)
        use(client, "api.calls", "10.5", "8.25", org_id="acme")
        use(client, "api.calls", "1", "2", org_id="other")
        month = f"{NOW:%Y-%m}"

        changed = inside("metric", "update", "api.calls", "--aggregation", "sum", env=env)
        assert (changed.returncode, changed.stdout) == (2, "")
        (line,) = changed.stderr.splitlines()
        assert "the total of 8 windows of 2 subjects changes from max to sum, in past periods too" in line
        assert f"for example user s1 of acme in {month}: 10.5 -> 18.75" in line
        assert f"1 threshold (quota ({threshold['id']})) will be judged by the new totals at once" in line
        assert "To confirm, run the command with --yes [NOT_CONFIRMED]" in line
        assert totals(client) == {"acme": Decimal("10.5"), "other": 2}

        # What changes nothing that exists is not asked about.
        answer("metric", "update", "api.calls", "--name", "All calls", "--aggregation", "max", env=env)
        answer("metric", "update", "api.calls", "--aggregation", "sum", "--yes", env=env)
        assert totals(client) == {"acme": Decimal("18.75"), "other": 3}

        own = ("metric", "define", *CALLS, "--org", "acme", "--aggregation", "min")
        hiding = inside(*own, env=env)
        assert (hiding.returncode, "4 windows of 1 subject changes from sum to min" in hiding.stderr) == (2, True)
        answer(*own, "--yes", env=env)
        assert totals(client) == {"acme": Decimal("8.25"), "other": 3}
        back = inside("metric", "delete", "api.calls", "--org", "acme", env=env)
        assert (back.returncode, "8.25 -> 18.75" in back.stderr) == (2, True)
        answer("metric", "delete", "api.calls", "--org", "acme", "-y", env=env)

        deleted = inside("metric", "delete", "api.calls", env=env)
        assert deleted.returncode == 2
        assert "8 windows of 2 subjects will have no total; their records and quantities stay" in deleted.stderr
        assert f"for example user s1 of acme in {month}: 18.75 -> no total" in deleted.stderr
        assert f"1 threshold (quota ({threshold['id']})) will not be judged" in deleted.stderr
        assert totals(client) == {"acme": Decimal("18.75"), "other": 3}
        answer("metric", "delete", "api.calls", "--yes", env=env)
        assert totals(client) == {"acme": None, "other": None}
        rows = client.rows("SELECT DISTINCT sum, max_quantity FROM usage_monthly WHERE org_id = 'acme'")
        assert rows == [{"sum": Decimal("18.75"), "max_quantity": Decimal("10.5")}]


def test_keys_with_usage_and_no_definition_are_named(env: dict[str, str], client: Client, tmp_path: Path) -> None:
    with running("check", env=env, folder=tmp_path, ready="check: ready"):
        answer("metric", "define", *CALLS, env=env)
        answer("metric", "define", "tokens", "--name", "Tokens", "--unit", "token", "--org", "acme", env=env)
    use(client, "api.calls", "1", org_id="acme")
    use(client, "tokens", "1", org_id="acme")
    quiet = answer("metric", "list", env=env)
    assert quiet["undefined"] == []
    use(client, "api.cals", "5", "6", "7", org_id="acme")
    use(client, "api.cals", "8", org_id="", subject_id="s2")
    use(client, "tokens", "1", org_id="other")
    use(client, "old.typo", "1", org_id="acme")
    client.command("ALTER TABLE usage_windows DELETE WHERE metric_key = 'old.typo' SETTINGS mutations_sync = 1")
    old = [Record(0, NOW - timedelta(days=70), 1, metric_key="old.typo")]
    insert(client, "usage_windows", windows_table(windows_of(old)))

    found = answer("metric", "list", env=env)
    shown = [
        (row["key"], row["organizations"], row["organization_count"], row["records"], row["guess"], row["elsewhere"])
        for row in found["undefined"]
    ]
    assert shown == [("api.cals", ["", "acme"], 2, 4, "api.calls", False), ("tokens", ["other"], 1, 1, None, True)]
    of_one = answer("metric", "list", "--org", "other", env=env)["undefined"]
    assert [row["key"] for row in of_one] == ["tokens"]

    spoken = inside("metric", "list", env=env)
    assert "note: metric 'api.cals' has usage and no definition: 4 records this month and last month" in spoken.stderr
    assert "api.cals" not in spoken.stdout

    status = inside("status", env=env)
    assert "note: metric 'api.cals' has usage and no definition" in status.stdout
    assert "Did you mean 'api.calls'?" in status.stdout
    report = answer("status", env=env, code=status.returncode)
    assert [row["key"] for row in report["clickhouse"]["undefined"]] == ["api.cals", "tokens"]
    assert len(report["notes"]) == 2
    # A note is no problem: it decides nothing about the exit code.
    assert not [problem for problem in report["problems"] if "api.cals" in problem]
    assert status.returncode == (0 if report["well"] else 1)
