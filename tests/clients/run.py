"""Runs the programs of other languages against the local stack and over the published files: `make test-clients`.

- clickhouse-go and clickhouse-jdbc against the local ClickHouse server
- the examples for Java, Node and Go (examples/clients) against Kafka, the fold and the checker
- AsyncAPI's own parser over the AsyncAPI document
- Confluent's Python client with its Avro serializer against Apicurio Registry and the fold

A program whose tools are not installed is skipped. Exit status 1 when one fails, 3 when the libraries of one could not
be fetched and no other failed. Names of programs as arguments run only those; --fetch only fetches the libraries.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clients import asyncapi, confluent, examples
from clients.tools import Failed, Program, run
from meterfold_local.stack import LocalStack

UNAVAILABLE = 3
HERE = Path(__file__).parent

GO = (("go",), ("go", "mod", "download"))
MAVEN = (("java", "mvn"), ("mvn", "-q", "-B", "compile", "dependency:resolve", "dependency:resolve-plugins"))
APICURIO = ((), (sys.executable, str(HERE / "apicurio.py")))
NODE = (("node", "npm"), ("npm", "ci", "--silent", "--prefer-offline", "--no-audit", "--no-fund"))

Check = Callable[[Path, LocalStack], None]


@dataclass(frozen=True, slots=True)
class Client:
    """A program, and what is checked with it: called with the program's folder and the stack."""

    program: Program
    check: Check


def clickhouse(*command: str) -> Check:
    """A program that connects to $METERFOLD_CLICKHOUSE_URL as `default`, with the password of the stack."""

    def check(folder: Path, stack: LocalStack) -> None:
        settings = stack.clickhouse_settings("default")
        environment = {
            **os.environ,
            "METERFOLD_CLICKHOUSE_URL": settings.url,
            "METERFOLD_CLICKHOUSE_PASSWORD": settings.password.get_secret_value(),
        }
        run(command, folder, environment, shown=True)

    return check


CLIENTS = (
    Client(Program("clickhouse-go", HERE / "go", *GO), clickhouse("go", "run", ".")),
    Client(Program("clickhouse-jdbc", HERE / "java", *MAVEN), clickhouse("mvn", "-q", "-B", "compile", "exec:java")),
    Client(Program("asyncapi", HERE / "asyncapi_parser", *NODE), asyncapi.check),
    Client(Program("confluent", examples.SOURCES / "python", *APICURIO), confluent.check),
    *(
        Client(Program(name, examples.SOURCES / name, *how), examples.check(name))
        for name, how in (("go", GO), ("java", MAVEN), ("node", NODE))
    ),
)


def main(names: list[str]) -> int:
    """The exit status."""
    if names == ["--fetch"]:
        fetch()
        return 0
    unknown = set(names) - {client.program.name for client in CLIENTS}
    if unknown:
        sys.exit(f"there is no program {', '.join(sorted(unknown))}: give some of {programs(CLIENTS)}")
    failed = unavailable = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with LocalStack(folder / "stack", kafka_port=0, clickhouse_port=0) as stack:
            for client in (client for client in CLIENTS if not names or client.program.name in names):
                begun, program = time.monotonic(), client.program
                if program.missing:
                    print(f"{program.name}: skipped, {' and '.join(program.missing)} not found", flush=True)
                    continue
                copy = program.copied(folder)
                if not program.fetched(copy):
                    print(f"{program.name}: NOT RUN, its libraries could not be fetched", flush=True)
                    unavailable = True
                    continue
                try:
                    client.check(copy, stack)
                except Failed as error:
                    print(f"{program.name}: FAILED, {error}", flush=True)
                    failed = True
                else:
                    print(f"{program.name}: ok, {time.monotonic() - begun:.0f} s", flush=True)
    if failed:
        return 1
    return UNAVAILABLE if unavailable else 0


def fetch() -> None:
    """Bring the libraries into the caches of their tools, so that a later run is short. What fails is named then."""
    with tempfile.TemporaryDirectory() as name:
        for program in (client.program for client in CLIENTS if not client.program.missing):
            program.fetched(program.copied(Path(name)))


def programs(clients: tuple[Client, ...]) -> str:
    return ", ".join(client.program.name for client in clients)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
