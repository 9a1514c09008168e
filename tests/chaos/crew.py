"""The processes of a run, and the one who starts again what was killed, as a supervisor does in production."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from threading import Event, RLock, Thread
from types import MappingProxyType
from typing import Any

from chaos.forked import ForkedProcess
from chaos.plan import AHEAD, CHECKERS, FOLDS, PRODUCERS
from chaos.points import Points
from meterfold_local.errors import StackError

CLICKHOUSE_SECONDS = 4
"""How long workers here wait for ClickHouse (300 s when shipped): "slower than the time-out" takes so long."""
_SECTIONS = {"fold": "FOLD", "check": "CHECKER", "notify": "NOTIFY"}
_PROGRAMS = {"fold": "chaos.fold_process", "check": "chaos.checker_process", "notify": "chaos.notify_process"}
_PAUSE = {AHEAD: 0.25}
_PAUSE_SECONDS = 0.08


@dataclass(frozen=True, slots=True)
class Ending:
    """A process that ended without being asked to, and not by our SIGKILL."""

    name: str
    code: int | None
    words: str


@dataclass(slots=True)
class Member:
    """`wanted` ones are started again when they end."""

    name: str
    process: ForkedProcess
    lock: RLock = field(default_factory=RLock)
    wanted: bool = True
    starts: int = 0


class Crew:
    """`arguments` go to every worker; `environment` is where they find their servers (ClickHouse through the proxy),
    `direct` where producers do."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        seed: int,
        protocol: str,
        ahead: float,
        batch_events: int,
        workers: Sequence[str] = (*FOLDS, *CHECKERS),
        producers: Sequence[str] = PRODUCERS,
        receivers: Mapping[str, str] = MappingProxyType({}),
        **arguments: Any,
    ) -> None:
        """`ahead` (seconds) is by how much the clock of one producer is wrong; a batch has at most `batch_events`;
        `receivers` is where notifiers find those they send to."""
        self.workers = workers
        self.producers = producers
        self.folder = folder
        self.points_folder = folder / "points"
        self.journals = folder / "journals"
        self.logs = folder / "logs"
        for path in (self.points_folder, self.journals, self.logs):
            path.mkdir(parents=True, exist_ok=True)
        self.protocols = dict.fromkeys(_SECTIONS, protocol)
        self.endings: list[Ending] = []
        self.allowed: list[str] = []
        """Words in the last lines of a process that make its end one that was to be expected."""
        self.expected: list[Ending] = []
        # A backtrace for each of polars' panics over a damaged body would cost more than all else.
        self._environment = {**environment, "RUST_BACKTRACE": "0"}
        self._seed = seed
        self._ahead = ahead
        self._batch_events = batch_events
        self._arguments = arguments
        self._receivers = receivers
        self._members: dict[str, Member] = {}
        self._over = Event()
        self._thread = Thread(target=self._look_after, name="supervisor", daemon=True)

    def start(self) -> None:
        for name in self.workers:
            self.add(name)
        self._thread.start()

    def start_producers(self) -> None:
        for name in self.producers:
            self.add(name)

    def stop_producers(self) -> dict[str, int | None]:
        """Every event has its report afterwards; exit statuses by name."""
        members = [self._members[name] for name in self.producers]
        for member in members:
            with member.lock:
                member.wanted = False
                if not member.process.running:
                    self._start(member)  # killed a moment ago: what has no report is its successor's to hand in
        for member in members:
            member.process.wait_for_line("ready", 60)
            member.process.signal(signal.SIGTERM)
        # No second signal: while the interpreter ends, nobody handles it any more.
        return {member.name: member.process.wait(150) for member in members}

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(30)
        for member in self._members.values():
            member.wanted = False
            member.process.signal(signal.SIGCONT)
            member.process.signal(signal.SIGTERM)
        for member in self._members.values():
            member.process.terminate(12)

    def points(self, name: str) -> Points:
        return Points(self.points_folder, name)

    def member(self, name: str) -> Member:
        return self._members[name]

    def journal(self, name: str) -> Path:
        return self.journals / f"{name}.jsonl"

    def add(self, name: str, *, wanted: bool = True) -> Member:
        member = self._members.get(name)
        if member is None:
            process = ForkedProcess(name, self.logs / f"{name}.log")
            member = self._members[name] = Member(name, process)
        with member.lock:
            member.wanted = wanted
            self._start(member)
        return member

    def signal(self, name: str, number: signal.Signals) -> bool:
        """Whether there was somebody to hear it."""
        member = self._members[name]
        with member.lock:
            running = member.process.running
            member.process.signal(number)
        return running

    def retire(self, name: str, number: Signals, seconds: float = 15) -> int | None:
        """End one for good; its exit status."""
        member = self._members[name]
        with member.lock:
            member.wanted = False
            if number is signal.SIGKILL:
                member.process.kill()
                return member.process.exit_code
        return member.process.terminate(seconds)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """No producer hands anything in meanwhile."""
        for name in self.producers:
            self.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            for name in self.producers:
                self.signal(name, signal.SIGCONT)

    @contextmanager
    def away(self, names: Sequence[str]) -> Iterator[None]:
        """None of these runs meanwhile."""
        for name in names:
            with self._members[name].lock:
                self._members[name].wanted = False
                self._members[name].process.signal(signal.SIGTERM)
        for name in names:
            self._members[name].process.terminate(15)
        yield
        for name in names:
            self.add(name)

    def change_protocol(self, kind: str) -> None:
        """All of a kind leave and come back with the other protocol."""
        with self.away(self._turn(kind)):
            pass

    def roll_protocol(self, kind: str, wait: Callable[[Member], object]) -> None:
        """One after the other leaves and comes back with the other protocol; `wait` follows on each, while the group
        has members of both."""
        for name in self._turn(kind):
            self.retire(name, signal.SIGTERM)
            wait(self.add(name))

    def _turn(self, kind: str) -> list[str]:
        """From now on this kind starts with the other protocol; who must be started again for that."""
        other = {"consumer": "classic", "classic": "consumer"}
        self.protocols[kind] = other[self.protocols[kind]]
        return [name for name in self._members if name.startswith(kind) and self._members[name].wanted]

    def _start(self, member: Member) -> None:
        name, process = member.name, member.process
        kind = name.partition("-")[0]
        environment = dict(self._environment)
        if kind in _SECTIONS:
            section = _SECTIONS[kind]
            protocol = self.protocols[kind]
            environment[f"METERFOLD_{section}_GROUP_PROTOCOL"] = protocol
            environment[f"METERFOLD_{section}_SESSION_TIMEOUT_SECONDS"] = "6"
            # So long a group may wait for members whose sessions its coordinator has forgotten to time, or for one that
            # has not heard that it is to hand a partition over.
            environment["METERFOLD_KAFKA_MAX_POLL_INTERVAL_MS"] = "45000"
            if protocol == "classic":
                environment["METERFOLD_KAFKA_HEARTBEAT_INTERVAL_MS"] = "300"
            if kind == "fold":
                environment["METERFOLD_FOLD_BATCH_SECONDS"] = "0.2"
                # What has piled up is several batches, folded ahead of the ones on their way to ClickHouse.
                environment["METERFOLD_FOLD_BATCH_EVENTS"] = str(self._batch_events)
            elif kind == "notify":
                environment |= self._receivers
            else:
                environment["METERFOLD_CHECKER_SLOT"] = name.partition("-")[2]
                environment["METERFOLD_CHECKER_EMIT_INTERVAL_SECONDS"] = "2"
                environment["METERFOLD_CHECKER_AGGREGATED_PERIODS"] = "hourly,daily,monthly,lifetime"
            program = _PROGRAMS[kind]
            arguments = {"name": name, "points": str(self.points_folder), "timeout": CLICKHOUSE_SECONDS}
            arguments |= self._arguments
        else:
            program = "chaos.producer_process"
            arguments = {
                "name": name,
                "seed": self._seed,
                "journal": str(self.journal(name)),
                "pause": _PAUSE.get(name, _PAUSE_SECONDS),
                "ahead": self._ahead if name == AHEAD else 0,
            }
        process.program, process.arguments = program, arguments
        process.env = environment
        process.start()
        member.starts += 1

    def _look_after(self) -> None:
        while not self._over.wait(0.05):
            for member in list(self._members.values()):
                with member.lock:
                    if member.wanted and member.starts and not member.process.running:
                        self._note_end(member)
                        self._start(member)

    def _note_end(self, member: Member) -> None:
        code = member.process.exit_code
        with_words = member.process.output().strip().splitlines()[-6:]
        try:
            member.process.wait(1)
        except StackError:
            time.sleep(0.01)
        words = "\n".join(with_words)
        if code != -signal.SIGKILL:
            known = any(allowed in words for allowed in self.allowed)
            (self.expected if known else self.endings).append(Ending(member.name, code, words))
