"""One checker per slot. The client ids of the group's members show which process uses a slot.

A slot names a transactional id, and Kafka gives a transactional id to the last producer that asks for it. A second
checker on the same slot would fence the first one, which would then fence the second. So a checker inspects its group
before it joins.

    the holder is alive              the new checker ends with SlotTaken; the holder continues
    the holder's process is gone     the new checker takes the slot over at once
    stopped, or on another machine   the new checker waits until the broker has removed the holder, one session at most

Two checkers can still meet if both start at the same time, or if a paused process is replaced and then continues. A
checker therefore checks again before it takes the transactional id, and the one that was started later ends.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final, Self

from meterfold_processor.backoff import Stopped, persist
from meterfold_processor.kafka import groups
from meterfold_schemas.errors import Fatal, Retryable
from meterfold_schemas.settings import KafkaSettings

__all__ = ["Holder", "Slot", "SlotTaken"]

_LOG = logging.getLogger("meterfold.checker")

_NAME: Final = re.compile(r"(?:.*\.)?slot-(\d+)\.([\w.-]+)\.(\d+)\.([0-9a-f]{8})\.([0-9a-f]{1,12})", re.ASCII)
_LOOK_SECONDS: Final = 0.5
_LEAVING_SECONDS: Final = 2.0
"""A live holder may be stopping."""
_SPARE_SECONDS: Final = 10.0
"""Added to one session, because the broker checks its timers late and restarts them when it moves the group."""


class SlotTaken(Fatal):
    """Another checker uses the slot."""

    code = "CHECKER_SLOT_TAKEN"

    def __init__(self, holder: Holder, hint: str = "") -> None:
        super().__init__(
            f"slot {holder.slot} is already in use by a checker (process {holder.pid} on {holder.host}{hint}). To run "
            f"a second checker, give it another slot: METERFOLD_CHECKER_SLOT={holder.slot + 1} meterfold check"
        )
        self.holder = holder


@dataclass(frozen=True, slots=True)
class Holder:
    """One checker. Processes of the same `machine` can see each other's pids; `started` in UTC milliseconds."""

    slot: int
    host: str
    pid: int
    machine: str
    started: int

    @classmethod
    def here(cls, slot: int) -> Self:
        host = re.sub(r"[^\w.-]", "-", socket.gethostname(), flags=re.ASCII)[:80] or "unknown"
        return cls(slot, host, os.getpid(), _machine(), time.time_ns() // 1_000_000)

    @classmethod
    def parse(cls, client_id: str) -> Self | None:
        found = _NAME.fullmatch(client_id)
        if found is None:
            return None
        slot, host, pid, machine, started = found.groups()
        return cls(int(slot), host, int(pid), machine, int(started, 16))

    def client_id(self, configured: str) -> str:
        return f"{configured}.slot-{self.slot}.{self.host}.{self.pid}.{self.machine}.{self.started:x}"

    @property
    def age(self) -> tuple[int, str, int]:
        """Smaller for a checker that was started earlier."""
        return self.started, self.machine, self.pid

    def is_alive(self) -> bool | None:
        """None if it cannot be known from here, or if the process is stopped and may never continue."""
        if self.machine != _machine():
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        state = _state(self.pid)
        return None if state in "Tt" else state not in "ZX"


class Slot:
    """The slot of one worker. `client_id` is the client.id of its consumer."""

    def __init__(self, settings: KafkaSettings, group_id: str, slot: int, session_seconds: float | None = None) -> None:
        """`session_seconds`: None where the broker decides, as with the consumer protocol."""
        self._settings = settings
        self._group_id = group_id
        self._session_seconds = session_seconds
        self._own = Holder.here(slot)
        self.client_id = self._own.client_id(settings.librdkafka.get("client.id", "meterfold-checker"))

    def holder(self) -> Holder | None:
        """Another checker on this slot, unless its process is known to be gone. Raises Retryable or Fatal."""
        for member in groups.members(self._settings, self._group_id):
            found = Holder.parse(member.client_id)
            if found is None or found.slot != self._own.slot or found == self._own:
                continue
            if found.is_alive() is not False:
                return found
        return None

    def require(self) -> None:
        """Raises SlotTaken if a checker that was started earlier uses the slot; Retryable or Fatal."""
        holder = self.holder()
        if holder is not None and holder.age < self._own.age:
            raise SlotTaken(holder)

    def wait_until_free(self, stop: Event, report: Callable[[Retryable | None], None]) -> None:
        """Return when the slot is free. Raises SlotTaken, Fatal, or Stopped when `stop` is set."""
        holder = persist(self.holder, stop, report)
        if holder is None:
            return
        begun, patience = time.monotonic(), self._patience(holder)
        while holder is not None:
            alive = bool(holder.is_alive())
            waited = time.monotonic() - begun
            if waited >= (min(_LEAVING_SECONDS, patience) if alive else patience):
                raise SlotTaken(holder)
            if not alive:
                waiting = Retryable(
                    f"slot {holder.slot} is still in use by the checker with process {holder.pid} on {holder.host}; "
                    f"waiting up to {patience:.0f} s until it has left the group"
                )
                if waited < _LOOK_SECONDS:
                    _LOG.warning("%s", waiting)
                report(waiting)
            if stop.wait(_LOOK_SECONDS):
                raise Stopped
            holder = persist(self.holder, stop, report)
        report(None)

    def _patience(self, holder: Holder) -> float:
        session = self._session_seconds
        if session is None:
            session = groups.session_seconds(self._settings, self._group_id)
        return session + _SPARE_SECONDS


def _machine() -> str:
    """Processes with the same answer see each other's pids: not those of another container or after a reboot."""
    parts = [socket.gethostname()]
    try:
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    except OSError:  # no Linux
        parts.append(str(uuid.getnode()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _state(pid: int) -> str:
    """Linux's letter for a process, such as R, S, T (stopped) or Z (zombie); "?" where there is none to read."""
    try:
        # The name before it may hold anything, parentheses too.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "?"
