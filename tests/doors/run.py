"""The clients of OpenMeter and Lago, and LiteLLM's callback, against `meterfold serve`: `make test-doors`.

Each program of `programs/` is called twice: with `write`, it defines what it needs and sends events; with `read`, once
the fold has counted them, it prints what the server answers as JSON, which is compared here. The clients are installed
from their registries into an environment of their own, which DOORS_CLIENTS keeps in a folder for the next run.

A program whose tools are missing is skipped. Exit status 1 when one fails, 3 when a client could not be fetched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.tools import Failed, expect, run
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from support.cli import answer, running

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
UNAVAILABLE = 3
DEADLINE = 120
FETCH_SECONDS = 900
KEY = "k" * 32


@dataclass(frozen=True, slots=True)
class Door:
    """A program in Python or Node, and what it prints. `counted`: usage events that its events become."""

    name: str
    expected: Any
    counted: int

    @property
    def is_python(self) -> bool:
        return not self.name.endswith(".mjs")


DOORS = (
    Door(
        "openmeter_quickstart.py",
        {
            "total": 100.25,
            "windows": [["gpt-4o", "customer-1", 100.0], ["o1", "customer-1", 0.25]],
            "minutes": 100.25,
            "posted": [["customer-1", 100.0]],
            "prompts": 3.0,
            "models": 2.0,
            "meters": ["models", "prompts", "tokens_total"],
            "meter": "$.tokens",
            "subjects": ["customer-1", "customer-2"],
            "known": ["customer-1", "customer-2"],
            "events": 3,
            "problems": ["meter tokens_total: quantity 'many' is not a decimal number"],
            "data": ["0.25", "100", "many"],
        },
        3 + 3 + 3 + 2,
    ),
    Door(
        "openmeter_quickstart.mjs",
        {"total": 2950, "grouped": [["output", 850]], "ids": True, "events": 3, "subject": "customer-acme-corp"},
        3 + 3,
    ),
    Door("litellm_callback.py", [["customer-9", "gpt-4o", True]], 1 + 2),
    Door("lago_events.py", [["storage", "11", 3]], 3),
    Door("lago_agent.py", [["llm_input_tokens", "120"], ["llm_output_tokens", "30"]], 2),
)


def main(names: list[str]) -> int:
    """The exit status."""
    doors = [door for door in DOORS if not names or door.name.partition(".")[0] in names or door.name in names]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clients = Path(os.environ.get("DOORS_CLIENTS") or folder / "clients")
        # Each environment is made once: where that takes too long, it would do so for every program.
        pythons = any(door.is_python for door in doors) and _has_python(clients / "python")
        nodes = any(not door.is_python for door in doors) and _has_node(clients / "node")
        runnable = [(door, _command(door, clients)) for door in doors if (pythons if door.is_python else nodes)]
        for door in doors:
            if door not in [one for one, _ in runnable]:
                print(f"{door.name}: NOT RUN, its client could not be fetched", flush=True)
        failed = False
        with LocalStack(folder / "stack", kafka_port=0, clickhouse_port=0) as stack:
            failed = _run(folder, stack, runnable)
    if failed:
        return 1
    return 0 if len(runnable) == len(doors) else UNAVAILABLE


def _run(folder: Path, stack: LocalStack, doors: list[tuple[Door, tuple[str, ...]]]) -> bool:
    """Whether one failed."""
    write_settings(folder / "meterfold.toml", stack.kafka_settings("doors."), stack.clickhouse_settings("doors"))
    environment = {
        **os.environ,
        "METERFOLD_CONFIG": str(folder / "meterfold.toml"),
        "METERFOLD_FOLD_BATCH_SECONDS": "0.05",
        "METERFOLD_HTTP_TOKEN_KEY": KEY,
        "METERFOLD_HTTP_PORT": "0",
    }
    answer("migrate", "--partitions", "4", env=environment)
    failed = False
    with (
        running("fold", env=environment, folder=folder, ready="fold: ready"),
        running("check", env=environment, folder=folder, ready="check: ready"),
        running("serve", env=environment, folder=folder, ready="serve: ready") as server,
    ):
        line = server.wait_for_line("serve: ready", DEADLINE)
        created = answer(
            *("token", "create", "doors", "--scope", "ingest", "--scope", "read", "--scope", "manage"),
            *("--org", "acme"),
            env=environment,
        )
        _define_for_lago(environment)
        client = {
            **{name: value for name, value in os.environ.items() if not name.startswith("METERFOLD_")},
            "ENDPOINT": line.split("listening on ")[1].split(";")[0].strip(),
            "TOKEN": created["token"],
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        counted = 0
        for door, command in doors:
            try:
                run((*command, "write"), PROGRAMS, client)
                status = answer("status", "--wait", str(DEADLINE), env=environment)
                expect(status["rejected"] == 0, f"the fold has rejected {status['rejected']} events")
                found, counted = status["counted"] - counted, status["counted"]
                expect(found == door.counted, f"the fold has counted {found} events instead of {door.counted}")
                printed = json.loads(run((*command, "read"), PROGRAMS, client).strip().splitlines()[-1])
                expect(printed == door.expected, f"it printed\n{printed}\ninstead of\n{door.expected}")
            except Failed as error:
                print(f"{door.name}: FAILED, {error}", flush=True)
                failed = True
            else:
                print(f"{door.name}: ok", flush=True)
        if failed:
            print(server.quote(40), flush=True)
    return failed


def _define_for_lago(environment: dict[str, str]) -> None:
    """Lago's clients create no metrics."""
    for key, metadata in (
        ("storage", '{"lago": {"field_name": "gb"}}'),
        ("llm_input_tokens", "{}"),
        ("llm_output_tokens", "{}"),
    ):
        answer(
            *("metric", "define", key, "--name", key, "--unit", "units", "--metadata", metadata, "--org", "acme"),
            env=environment,
        )


def _command(door: Door, clients: Path) -> tuple[str, ...]:
    """How to run it, with its client installed."""
    if door.is_python:
        return str(clients / "python" / "bin" / "python"), door.name
    # Node looks for modules beside the program.
    shutil.copy(PROGRAMS / door.name, clients / "node")
    return "node", str(clients / "node" / door.name)


def _has_python(folder: Path) -> bool:
    """An environment with the clients for Python, which is made where it is missing."""
    return (folder / "done").exists() or _installed_python(folder)


def _has_node(folder: Path) -> bool:
    """The same for Node."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        print("node and npm not found", flush=True)
        return False
    if (folder / "node_modules").exists():
        return True
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(PROGRAMS / "package.json", folder)
    return _fetched(("npm", "install", "--silent", "--no-audit", "--no-fund"), folder)


def _installed_python(folder: Path) -> bool:
    venv.create(folder, with_pip=True, clear=True)
    command = (str(folder / "bin" / "pip"), "install", "--quiet", "-r", str(HERE / "requirements.txt"))
    if not _fetched(command, folder):
        return False
    (folder / "done").touch()
    return True


def _fetched(command: tuple[str, ...], folder: Path) -> bool:
    try:
        return subprocess.run(command, cwd=folder, timeout=FETCH_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
