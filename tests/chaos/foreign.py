"""What no SDK sends: poison and misrouted messages from a raw producer, journaled as well."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from chaos.ground import PARTITIONS, Ground
from chaos.journal import Journal
from chaos.sender import Sender
from meterfold_schemas.keys import partition_of
from support.fold.installation import Outgoing, event, raw_event


class Foreign(Sender):
    pause_seconds = 0.3

    def __init__(self, ground: Ground, path: Path, seed: int) -> None:
        super().__init__(ground)
        self._journal = Journal(path)
        self._chance = random.Random(f"{seed}/foreign")

    def send(self) -> None:
        self._send(*self._one())

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
        name = f"foreign-{self._number}"
        value = None if message.value is None else message.value.hex()
        self._journal.write("handed", name, reason=reason, value=value)

        def reported(error: Any, sent: Any) -> None:
            if error is None:
                self._journal.write("acknowledged", name, partition=sent.partition(), offset=sent.offset())
            else:
                self._journal.write("failed", name, error=str(error))

        self._producer.produce(self._topic, message.value, message.key, message.partition, on_delivery=reported)
