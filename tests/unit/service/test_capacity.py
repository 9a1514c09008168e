"""The plan of an installation: its arithmetic, the command, and the tables of docs/capacity.md."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pytest

from meterfold_cli import exits, main
from meterfold_schemas.errors import InvalidSettings
from meterfold_service.capacity import MEASURED, Figure, Load, plan
from support.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import capacity_table

LOAD = Load(events_per_second=5_000, subjects=2_000_000)


def test_a_plan_by_hand() -> None:
    numbers = {
        "worker_cpu": 100, "clickhouse_cpu": 3, "merge_cpu": 1, "kafka_cpu": 2, "worker_memory": 1e9,
        "subject_memory": 400, "identity_memory": 2, "new_identity_memory": 10, "record_disk": 50, "window_disk": 20,
        "unmerged": 2, "event_log": 100, "touched_log": 60,
    }  # fmt: skip
    measured = replace(MEASURED, **{name: Figure(value, "", "", "") for name, value in numbers.items()})
    load = Load(
        events_per_second=10_000, subjects=1_000_000, identities_days=11, retention_days=100, topic_days=10,
        worker_memory_gb=8,
    )  # fmt: skip
    found = plan(load, measured)
    assert found.worker_cores == pytest.approx(1.0)
    assert found.clickhouse_cores == pytest.approx(0.03 + 6 * 0.01)
    assert found.kafka_cores == pytest.approx(0.02)
    # 864,000,000 events a day: 10 days of 2 bytes, the newest of 10; and 400 MB of subjects, in 7 GB per worker.
    state = 864_000_000 * (10 * 2 + 10) + 400_000_000
    assert found.workers == -(-state // 7_000_000_000) == 4
    assert found.worker_memory == pytest.approx(1e9 + state / 4)
    assert found.partitions == 16
    assert found.events_per_month == 864_000_000 * 30.5
    assert found.records_disk == 864_000_000 * 100 * 50
    assert found.records_disk_per_month == 864_000_000 * 30.5 * 50
    assert found.kafka_disk == 864_000_000 * (10 * 100 + 60)
    # 36 events per subject and hour: every window is touched.
    assert found.windows_per_month == pytest.approx(1_000_000 * (30.5 * 24 + 30.5 + 1), rel=1e-6)
    expected = found.records_disk + 12 * found.windows_disk_per_month + 1_000_000 * 20
    assert found.clickhouse_disk_in_a_year == pytest.approx(2 * expected)


def test_few_events_touch_at_most_one_window_each() -> None:
    found = plan(Load(events_per_second=1, subjects=100_000_000))
    assert found.windows_per_month == pytest.approx(3 * found.events_per_month, rel=0.02)


@pytest.mark.parametrize("name", ["events_per_second", "subjects", "identities_days", "retention_days", "topic_days"])
def test_more_of_anything_never_needs_less(name: str) -> None:
    small, large = plan(LOAD), plan(replace(LOAD, **{name: getattr(LOAD, name) * 20}))
    less = [key for key, value in large.to_dict().items() if key != "load" and value < small.to_dict()[key]]
    # More workers share the memory.
    assert set(less) <= {"worker_memory"}
    assert large != replace(small, load=large.load), f"{name} changes nothing"


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e13])
def test_a_load_that_makes_no_sense_is_refused(value: float) -> None:
    with pytest.raises(InvalidSettings, match=r"events_per_second is .*; give a number above 0"):
        Load(events_per_second=value, subjects=1)


def test_the_command_prints_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["capacity", "--events-per-second", "5000", "--subjects", "2000000"]
    assert main.run([*words, "--json"]) == exits.OK
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(plan(LOAD).to_dict()))
    assert main.run(words) == exits.OK
    shown = capsys.readouterr().out
    assert re.search(rf"^partitions\s+{plan(LOAD).partitions}\b", shown, re.MULTILINE)
    assert main.run(["capacity", "--events-per-second", "0", "--subjects", "1"]) == exits.USAGE
    assert "events_per_second is 0" in capsys.readouterr().err


def test_the_page_has_the_tables_that_the_function_makes() -> None:
    text = (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8")
    for name, body in (("table", capacity_table.table()), ("figures", capacity_table.figures())):
        mark = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
        assert text.partition(mark[0])[2].partition(mark[1])[0] == body, "run `python benchmarks/capacity_table.py`"
