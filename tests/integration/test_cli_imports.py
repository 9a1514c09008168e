"""What the commands about definitions import: what is heavy would take longer than all that they do.

Names of modules, not seconds: those say something on a quiet machine only.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.cli import answer

HEAVY = ("chdb", "clickhouse_connect", "numpy", "pandas", "polars", "prometheus_client", "pyarrow", "urllib3")
NAMES = (
    "import sys\n"
    "from meterfold_cli.main import run\n"
    "assert run(sys.argv[1:]) == 0\n"
    "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
)


@pytest.mark.parametrize("words", ["metric list", "threshold list", "--help"])
def test_a_look_at_definitions_imports_nothing_heavy(words: str, stack_environment: dict[str, str]) -> None:
    answer("migrate", "--partitions", "1", env=stack_environment)
    done = subprocess.run(
        [sys.executable, "-c", NAMES, *words.split()],
        env=stack_environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not set(HEAVY) & set(done.stderr.splitlines()[-1].split())


def test_defining_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, meterfold_service.definition_log; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not set(HEAVY) & {name.partition(".")[0] for name in done.stdout.split()}
