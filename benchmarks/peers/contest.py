"""One run of one peer: started, timed from its first record to its last row, compared with the oracle, ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine
from meterfold_cli.local_run import command
from meterfold_local.errors import StackError
from meterfold_local.process import ManagedProcess
from meterfold_sink.client import Client, connect
from peers import jvm, venvs
from peers.arena import Arena, Place
from peers.contestants import Peer, Runtime
from peers.outcomes import Outcome
from peers.watching import Watch

START_SECONDS = 240.0
POLL_SECONDS = 0.1
QUIET_SECONDS = 0.5
READY = {Runtime.FOLD: "fold: ready"}
"""What a process prints with its first record; the others print a line `ready`."""


def commands(peer: Peer, events: int) -> list[list[str]]:
    """The command line of each process. Installs and compiles what is missing; raises PreparationFailed."""
    match peer.runtime:
        case Runtime.FOLD:
            return [command("fold")]
        case Runtime.COPY:
            return [[sys.executable, str(Path(machine.__file__).with_name("bare_copy.py")), str(events)]]
        case Runtime.PYTHON:
            python = str(venvs.python_of(peer.folder))
            return [[python, str(peer.folder / program)] for program in peer.programs]
        case Runtime.JAVA:
            return [jvm.command(peer, program) for program in peer.programs]


def run(arena: Arena, peer: Peer, wire_format: str, deadline: float) -> Outcome:
    """Never raises for a fault of the peer: the outcome then has an error, with the ends of its logs."""
    events = len(arena.made.key)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    blank = Outcome(peer.name, wire_format, arena.name, events, machine=machine.describe(), measured_at=stamp)
    processes: list[ManagedProcess] = []
    place: Place | None = None
    try:
        lines = commands(peer, events)
        place = arena.place(peer, wire_format)
        with connect(place.clickhouse) as client:
            inserted = _inserted(client)
        begun = time.monotonic()
        for number, line in enumerate(lines):
            name = f"{place.run}-{number}"
            processes.append(arena.stack.spawn(name, line, dict(place.environment(wire_format))))
        _wait_ready(processes, READY.get(peer.runtime, "\nready\n"))
        startup = time.monotonic() - begun
        timed = _timed(arena, peer, place, processes, inserted, deadline)
        with connect(place.clickhouse) as client:
            return replace(blank, **timed, startup=startup, error=arena.problem(peer, client))
    except (Exception, SystemExit) as error:  # whatever it is, the other peers are still to be measured
        logs = "".join(process.quote(40) for process in processes)
        reason = str(error) if isinstance(error, venvs.PreparationFailed) else str(error).partition("\n---")[0]
        return replace(blank, error=f"{reason or type(error).__name__}{logs}")
    finally:
        _leave(arena, place, processes)


def _wait_ready(processes: Sequence[ManagedProcess], line: str) -> None:
    """Until one of them has read its first record, or is about to. All must keep running."""
    end = time.monotonic() + START_SECONDS
    while not any(line in f"\n{process.output()}" for process in processes):
        for process in processes:
            if not process.running:
                raise StackError(f"{process.name} ended with status {process.exit_code} before it was ready")
        if time.monotonic() > end:
            raise StackError(f"no process printed {line.strip()!r} within {START_SECONDS:.0f} s")
        time.sleep(0.02)


def _timed(
    arena: Arena,
    peer: Peer,
    place: Place,
    processes: Sequence[ManagedProcess],
    inserted_before: int,
    deadline: float,
) -> dict[str, Any]:
    """Until every row is in ClickHouse. The run ends when its last part became visible. The tables themselves are only
    read once every window may be there and nothing new has come for a moment, so that looking costs little. Returns the
    fields of an outcome."""
    stack = arena.stack
    watches = {
        "peer": Watch([process.pid for process in processes]),
        "ClickHouse": Watch([stack.clickhouse.process.pid]),
        "Kafka": Watch([broker.process.pid for broker in stack.kafka.brokers]),
    }
    before = {name: watch.sample() for name, watch in watches.items()}
    begun = last = time.monotonic()
    after, newest, looked = before, -1, begun
    least = arena.expected.height if peer.windows else len(arena.made.key)
    with connect(place.clickhouse) as client:
        while True:
            now, sample = time.monotonic(), {name: watch.sample() for name, watch in watches.items()}
            block = client.value(_NEWEST_BLOCK)
            if block != newest:
                newest, last, after = block, now, sample
            elif now - max(last, looked) > QUIET_SECONDS and _inserted(client) - inserted_before >= least:
                looked = now
                if arena.done(peer, client):
                    break
            for process in processes:
                if not process.running and (peer.windows or process.exit_code):
                    raise StackError(f"{process.name} ended with status {process.exit_code} before all was written")
            if now - begun > deadline:
                raise StackError(f"{peer.name} was not done after {deadline:.0f} s")
            time.sleep(POLL_SECONDS)
    events = len(arena.made.key)
    cpu = {name: (after[name] - before[name]) / events * 1e6 for name in watches}
    return {"seconds": last - begun, "cpu": cpu, "memory": watches["peer"].peak}


# Each insert gets the next block number of its table when its part becomes visible; merges give none.
_NEWEST_BLOCK = (
    "SELECT toInt64(sum(newest)) FROM (SELECT max(max_block_number) AS newest FROM system.parts "
    "WHERE active AND database = currentDatabase() GROUP BY table)"
)


def _inserted(client: Client) -> int:
    """Rows that ClickHouse has inserted since it was started, those that are not visible yet included."""
    return int(client.value("SELECT toInt64(sum(value)) FROM system.events WHERE event = 'InsertedRows'"))


def _leave(arena: Arena, place: Place | None, processes: Sequence[ManagedProcess]) -> None:
    """End the processes and remove what they left. If a server has failed, the next run gets new ones."""
    if not arena.running:
        return
    for process in processes:
        arena.stack.end(process)
    try:
        arena.stack.check()
        if place is not None:
            arena.leave(place)
    except Exception:  # whatever is wrong with the servers: the next peer gets new ones
        arena.close()
