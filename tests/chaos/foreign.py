"""What no SDK sends: poison and misrouted messages from a raw producer, journaled as well."""

from __future__ import annotations

import random
from pathlib import Path
from threading import Event, Thread
from typing import Any

from chaos.ground import PARTITIONS, QUICK, Ground
from chaos.journal import Journal
from fold_support.installation import Outgoing, event, raw_event
from meterfold_schemas.keys import partition_of
from stack_support import producer

_PAUSE_SECONDS = 0.3


class Foreign:
    """Sends from a thread until it is stopped, and may be started again; every message has its report then."""

    def __init__(self, ground: Ground, path: Path, seed: int) -> None:
        self._topic = ground.topics.usage_recorded
        self._journal = Journal(path)
        self._producer = producer(ground.kafka, **{"linger.ms": 5, **QUICK})
        self._chance = random.Random(f"{seed}/foreign")
        self._stop = Event()
        self._number = 0
        self._thread: Thread | None = None

    def start(self) -> None:
        self._stop.clear()
        self._thread = Thread(target=self._run, name="foreign", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join(60)
        self._thread = None
        self._producer.flush(120)

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            self._send(*self._one())
            self._producer.poll(0)

    def _one(self) -> tuple[str, Outgoing]:
        whole = event(f"s{self._chance.randrange(8)}", self._chance.randint(1, 9))
        assert whole.value is not None
        assert whole.key is not None
        right = partition_of(whole.key, PARTITIONS)
        wrong = (right + self._chance.randrange(1, PARTITIONS)) % PARTITIONS
        somewhere = self._chance.randrange(PARTITIONS)
        match self._chance.randrange(7):
            case 0:
                return "misrouted", Outgoing(whole.value, whole.key, wrong)
            case 1:
                return "misrouted", Outgoing(whole.value, b'["acme","api.calls","user","else"]', right)
            case 2:
                return "undecodable", Outgoing(self._chance.randbytes(40), b"x", somewhere)
            case 3:
                return "undecodable", Outgoing(
                    whole.value[: self._chance.randrange(4, len(whole.value) - 1)], whole.key
                )
            case 4:  # two records in one message
                return "undecodable", Outgoing(whole.value + whole.value[10:], whole.key)
            case 5:
                return "undecodable", Outgoing(None, whole.key)
            case _:
                return "invalid", raw_event(metric_key="Not A Key")

    def _send(self, reason: str, message: Outgoing) -> None:
        self._number += 1
        name = f"foreign-{self._number}"
        value = None if message.value is None else message.value.hex()
        self._journal.write("handed", name, reason=reason, value=value)

        def reported(error: Any, sent: Any) -> None:
            if error is None:
                self._journal.write("acknowledged", name, partition=sent.partition(), offset=sent.offset())
            else:
                self._journal.write("failed", name, error=str(error))

        self._producer.produce(self._topic, message.value, message.key, message.partition, on_delivery=reported)
