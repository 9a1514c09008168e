"""An application that records usage through the SDK and keeps a journal.

Started again after a SIGKILL it hands in what its journal has no report of, as an application that wants nothing lost
would: with the same ids and times. SIGTERM ends it once everything has a report.
"""

from __future__ import annotations

import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock
from typing import Any

from chaos import journal
from chaos.events import corrected, event, repeats
from meterfold import BufferFull, Delivery, FlushTimeout, Meter, UndeliveredEvents
from meterfold_schemas.periods import from_micros, micros


class Application:
    """`ahead` (seconds) is by how much the clock of this process is wrong."""

    def __init__(self, name: str, seed: int, path: Path, pause: float, ahead: float) -> None:
        self._name = name
        self._seed = seed
        self._pause = pause
        self._ahead = ahead
        self._waiting: dict[str, dict[str, Any]] = {}
        self._lock = Lock()
        self._failed: list[str] = []
        before = journal.read(path)
        self._number = 1 + max((int(i.rpartition("-")[2]) for i in before), default=-1)
        self._again = [i for i, entry in before.items() if not entry.acknowledged]
        self._contents = {i: entry.contents[-1] for i, entry in before.items()}
        self._journal = journal.Journal(path)

    def run(self, stop: Event) -> None:
        with Meter(on_delivery=self._reported, delivery_timeout=90, close_timeout=60) as meter:
            for event_id in self._again:
                self._hand_in(meter, event_id)
            while not stop.wait(self._pause):
                self._next(meter)
                self._retry(meter)
            until = time.monotonic() + 120
            while time.monotonic() < until:
                try:
                    meter.flush(5)
                except FlushTimeout:
                    continue
                except UndeliveredEvents:
                    pass
                if not self._retry(meter):
                    break

    def _next(self, meter: Meter) -> None:
        number, self._number = self._number, self._number + 1
        made = event(self._seed, self._name, number)
        kind, subject = made.pop("subject")
        timestamp = made.pop("timestamp", None)
        if timestamp is None and not self._ahead:
            timestamp = datetime.now(UTC)
        # The wrong clock gives the present to events that have no time of their own.
        contents = {
            **made,
            "subject": [kind, subject],
            "quantity": str(made["quantity"]),
            "timestamp": None if timestamp is None else micros(timestamp),
            "ahead": self._ahead,
        }
        event_id = contents.pop("id")
        self._contents[event_id] = contents
        self._hand_in(meter, event_id)
        again = repeats(self._seed, self._name, number)
        if again is not None and f"{self._name}-{again}" in self._contents:
            self._hand_in(meter, f"{self._name}-{again}")
        late = corrected(self._seed, self._name, number)
        if late is not None and not self._ahead and f"{self._name}-{late}" in self._contents:
            self._contents[f"{self._name}-{late}"] |= {"timestamp": micros(datetime.now(UTC))}
            self._hand_in(meter, f"{self._name}-{late}")

    def _hand_in(self, meter: Meter, event_id: str) -> None:
        contents = self._contents[event_id]
        self._journal.write("handed", event_id, **contents)
        values = {name: value for name, value in contents.items() if name not in ("subject", "timestamp", "ahead")}
        if contents["timestamp"] is not None:
            values["timestamp"] = from_micros(contents["timestamp"])
        try:
            meter.record(subject=tuple(contents["subject"]), id=event_id, **values)
        except BufferFull:
            with self._lock:
                self._failed.append(event_id)

    def _retry(self, meter: Meter) -> bool:
        with self._lock:
            failed, self._failed = self._failed, []
        for event_id in failed:
            self._hand_in(meter, event_id)
        return bool(failed)

    def _reported(self, delivery: Delivery) -> None:
        if delivery.delivered:
            self._journal.write("acknowledged", delivery.event_id, partition=delivery.partition, offset=delivery.offset)
        else:
            self._journal.write("failed", delivery.event_id, error=delivery.error)
            with self._lock:
                self._failed.append(delivery.event_id)


def main(arguments: dict[str, Any]) -> None:
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    sys.stdout.write("ready\n")  # to be told to stop
    sys.stdout.flush()
    if ahead := arguments["ahead"]:
        right = time.time_ns
        time.time_ns = lambda: right() + int(ahead * 1_000_000_000)  # this machine's clock is wrong
    application = Application(
        arguments["name"], arguments["seed"], Path(arguments["journal"]), arguments["pause"], ahead
    )
    application.run(stop)
