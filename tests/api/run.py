"""Tries the HTTP API with other people's tools: `make test-api`.

- a Python client that openapi-python-client makes, and a TypeScript client that openapi-typescript makes
- schemathesis: requests of every kind that the OpenAPI document allows, and many that it does not (EXAMPLES=10, SEED=1)

All of it against `meterfold serve` with the local stack, a fold worker and a checker. The tools are installed into a
virtual environment in the cache. Exit status 1 when something fails, 3 when a tool could not be installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from meterfold import Meter
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from support.cli import answer, running
from support.paths import ROOT

HERE = Path(__file__).parent
TOOLS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "meterfold" / "api-tools"
UNAVAILABLE = 3
START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
#: It answers when a notifier has sent the message, and none is running.
EXCLUDED = ("/v1/notifications/test",)


class Unavailable(Exception):
    """A tool could not be installed."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server, and a token for everything."""

    url: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        start = START.isoformat().replace("+00:00", "Z")
        return {**os.environ, "METERFOLD_URL": self.url, "METERFOLD_TOKEN": self.token, "METERFOLD_START": start}


def main() -> int:
    try:
        python = installed()
        with tempfile.TemporaryDirectory(prefix="meterfold-api-") as folder, serving(Path(folder)) as server:
            try_python(python, Path(folder), server)
            if shutil.which("npm") is None:
                print("TypeScript client: NOT RUN, npm is not installed")
            else:
                try_typescript(Path(folder), server)
            try_schemathesis(python, Path(folder), server)
    except subprocess.CalledProcessError as error:
        print(f"FAILED with status {error.returncode}: {' '.join(map(str, error.cmd))}")
        return 1
    except Unavailable as error:
        print(f"NOT RUN: {error}")
        return UNAVAILABLE
    return 0


def installed() -> Path:
    """The interpreter of the tools' own environment."""
    python, wanted = TOOLS / "bin" / "python", (HERE / "requirements.txt").read_text(encoding="utf-8")
    marker = TOOLS / "installed.txt"
    if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
        venv.create(TOOLS, with_pip=True, clear=True)
        _install([python, "-m", "pip", "install", "-q", "-r", HERE / "requirements.txt"], HERE)
        marker.write_text(wanted, encoding="utf-8")
    return python


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """The local stack with workers, some usage of the metric api.calls, and a server."""
    settings = folder / "meterfold.toml"
    with LocalStack(folder / "stack", kafka_port=0, clickhouse_port=0) as stack:
        write_settings(settings, stack.kafka_settings("api."), stack.clickhouse_settings("meterfold_api"))
        env = {
            **stack.environment(),
            "METERFOLD_CONFIG": str(settings),
            "METERFOLD_HTTP_TOKEN_KEY": "k" * 32,
            "METERFOLD_HTTP_PORT": "0",
            "METERFOLD_HTTP_WAIT_SECONDS": "20",
        }
        answer("migrate", "--partitions", "2", env=env)
        with (
            running("check", env=env, folder=folder, ready="check: ready"),
            running("fold", env=env, folder=folder, ready="fold: ready"),
            running("serve", env=env, folder=folder, ready="serve: ready") as process,
        ):
            answer("metric", "define", "api.calls", "--name", "API calls", "--unit", "calls", env=env)
            with mock.patch.dict(os.environ, env), Meter() as meter:
                for number, quantity in enumerate(("2.5", "10")):
                    meter.record("api.calls", ("user", "ada"), quantity, id=f"e{number}", timestamp=START)
            answer("status", "--wait", "60", env=env)
            token = answer("token", "create", "tests", "--scope", "admin", env=env)["token"]
            yield Server(process.wait_for_line("listening on ", 10).partition("listening on ")[2].split()[0], token)


def try_python(python: Path, folder: Path, server: Server) -> None:
    made = folder / "meterfold_client"
    generator = python.with_name("openapi-python-client")
    environment = {**server.environment, "PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    _run(
        [generator, "generate", "--path", ROOT / "docs" / "openapi.json", "--meta", "none", "--output-path", made],
        folder,
        environment,
    )
    _run([python, HERE / "client.py"], folder, environment)


def try_typescript(folder: Path, server: Server) -> None:
    place = folder / "typescript"
    place.mkdir()
    for name in ("package.json", "client.ts"):
        shutil.copy(HERE / name, place)
    _install(["npm", "install", "--silent", "--prefer-offline", "--no-audit", "--no-fund"], place)
    _run(
        ["npx", "openapi-typescript", ROOT / "docs" / "openapi.json", "-o", "meterfold.d.ts"], place, server.environment
    )
    options = ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom", "--skipLibCheck"]
    _run(["npx", "tsc", *options, "client.ts"], place, server.environment)
    _run(["node", "client.js"], place, server.environment)


def try_schemathesis(python: Path, folder: Path, server: Server) -> None:
    examples, seed = os.environ.get("EXAMPLES", "10"), os.environ.get("SEED", "1")
    excluded = [word for path in EXCLUDED for word in ("--exclude-path", path)]
    _run(
        [
            *(python.with_name("st"), "run", f"{server.url}/v1/openapi.json"),
            *("--header", f"Authorization: Bearer {server.token}", *excluded),
            *("--max-examples", examples, "--seed", seed, "--request-timeout", "60"),
            *("--phases", "examples,coverage,fuzzing", "--continue-on-failure"),
            # Rules that a schema cannot say, such as an end before its start, refuse requests that fit it.
            *("--exclude-checks", "positive_data_acceptance,unsupported_method"),
        ],
        folder,
        server.environment,
    )


def _install(command: list[str | Path], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(map(str, command))} failed with status {done.returncode}")


def _run(command: list[str | Path], folder: Path, environment: dict[str, str]) -> None:
    subprocess.run(command, cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
