"""One run of one peer: started, timed from its first record to its last row, compared with the oracle, ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import machine
from meterfold_cli.local_run import command
from meterfold_local.errors import StackError
from meterfold_local.process import ManagedProcess
from meterfold_sink.client import connect
from peers import jvm, venvs
from peers.arena import Arena, Place
from peers.contestants import Peer, Runtime
from peers.outcomes import Outcome
from peers.watching import Watch

START_SECONDS = 240.0
POLL_SECONDS = 0.25
READY = {Runtime.FOLD: "fold: ready"}


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
    case = (peer.name, wire_format, arena.name, events)
    stamp = {"machine": machine.describe(), "measured_at": datetime.now(UTC).isoformat(timespec="seconds")}
    processes: list[ManagedProcess] = []
    place: Place | None = None
    try:
        lines = commands(peer, events)
        place = arena.place(peer, wire_format)
        begun = time.monotonic()
        for number, line in enumerate(lines):
            name = f"{place.run}-{number}"
            processes.append(arena.stack.spawn(name, line, dict(place.environment(wire_format))))
        _wait_ready(processes, READY.get(peer.runtime, "ready"))
        startup = time.monotonic() - begun
        outcome = _timed(arena, peer, place, processes, deadline)
        with connect(place.clickhouse) as client:
            problem = arena.problem(peer, client)
        return Outcome(
            *case,
            outcome.seconds,
            outcome.cpu,
            outcome.memory,
            startup,
            problem,
            stamp["machine"],
            stamp["measured_at"],
        )
    except (Exception, SystemExit) as error:  # whatever it is, the other peers are still to be measured
        logs = "".join(process.quote(40) for process in processes)
        told = str(error) if isinstance(error, venvs.PreparationFailed) else str(error).partition("\n---")[0]
        return Outcome(*case, error=f"{told or type(error).__name__}{logs}", **stamp)
    finally:
        _leave(arena, place, processes)


def _wait_ready(processes: Sequence[ManagedProcess], line: str) -> None:
    """Until one of them has read its first record, or is about to. All must keep running."""
    end = time.monotonic() + START_SECONDS
    while not any(line in process.output() for process in processes):
        for process in processes:
            if not process.running:
                raise StackError(f"{process.name} ended with status {process.exit_code} before it was ready")
        if time.monotonic() > end:
            raise StackError(f"no process printed {line!r} within {START_SECONDS:.0f} s")
        time.sleep(0.02)


def _timed(arena: Arena, peer: Peer, place: Place, processes: Sequence[ManagedProcess], deadline: float) -> Outcome:
    """Until every row is in ClickHouse. The run ends when its last row was inserted: ClickHouse's counter of inserted
    rows is read, and the tables only once that counter rests, so that looking costs little."""
    stack = arena.stack
    watches = {
        "peer": Watch([process.pid for process in processes]),
        "ClickHouse": Watch([stack.clickhouse.process.pid]),
        "Kafka": Watch([broker.process.pid for broker in stack.kafka.brokers]),
    }
    before = {name: watch.sample() for name, watch in watches.items()}
    begun = last = time.monotonic()
    after, inserted, looked = before, -1, -1
    with connect(place.clickhouse) as client:
        while True:
            now, sample = time.monotonic(), {name: watch.sample() for name, watch in watches.items()}
            rows = client.value("SELECT toInt64(value) FROM system.events WHERE event = 'InsertedRows'")
            if rows != inserted:
                inserted, last, after = rows, now, sample
            elif rows != looked:
                looked = rows
                if arena.done(peer, client):
                    break
            for process in processes:
                if not process.running and peer.windows:
                    raise StackError(f"{process.name} ended with status {process.exit_code} before all was written")
            if now - begun > deadline:
                raise StackError(f"{peer.name} was not done after {deadline:.0f} s")
            time.sleep(POLL_SECONDS)
    events = len(arena.made.key)
    cpu = {name: (after[name] - before[name]) / events * 1e6 for name in watches}
    return Outcome(peer.name, "", arena.name, events, last - begun, cpu, watches["peer"].peak)


def _leave(arena: Arena, place: Place | None, processes: Sequence[ManagedProcess]) -> None:
    """End the processes and remove what they left. If a server has failed, the next run gets new ones."""
    for process in processes:
        arena.stack.end(process)
    try:
        arena.stack.check()
        if place is not None:
            arena.leave(place)
    except Exception:  # whatever is wrong with the servers: the next peer gets new ones
        arena.close()
