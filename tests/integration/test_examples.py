"""The scripts that the README refers to, as a reader runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support import eventually
from support.cli import answer, running
from support.paths import ROOT

EXAMPLES = ROOT / "examples"


def example(name: str, *arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_of_the_readme_do_what_it_says(stack_environment: dict[str, str], tmp_path: Path) -> None:
    env = stack_environment
    answer("migrate", "--partitions", "2", env=env)
    with (
        running("fold", env=env, folder=tmp_path, ready="fold: ready"),
        running("check", env=env, folder=tmp_path, ready="check: ready"),
    ):
        answer("metric", "define", "api.calls", "--name", "API calls", "--unit", "calls", env=env)
        answer("threshold", "create", "api.calls", "--name", "quota", "--value", "10", env=env)
        assert example("record_usage.py", env=env) == "13 events delivered\n"
        expected = "ada        10.00 in 5 records\ngrace      4.00 in 4 records\nlinus      4.00 in 4 records\n"
        eventually(lambda: example("read_summaries.py", env=env) == expected, 40)
        # Running it again changes nothing: the ids are the same.
        assert example("record_usage.py", env=env) == "13 events delivered\n"
        eventually(lambda: answer("status", env=env)["duplicates"] == 13, 40)
        assert example("read_summaries.py", env=env) == expected
        events = example("follow_thresholds.py", "2", env=env).splitlines()
    assert sorted(events) == [
        "threshold.approaching  user ada  api.calls 10.00 of 10.00 (100 %)",
        "threshold.exceeded  user ada  api.calls 10.00 of 10.00 (100 %)",
    ]


def test_the_asyncio_example_confirms_its_last_event(stack_environment: dict[str, str]) -> None:
    answer("migrate", "--partitions", "1", env=stack_environment)
    assert example("record_usage_asyncio.py", env=stack_environment) == (
        "async-last is at offset 12 of partition 0\n13 events delivered\n"
    )
