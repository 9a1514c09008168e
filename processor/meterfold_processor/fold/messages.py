"""Consumed messages as columns: what the rest of the fold works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from meterfold_schemas.errors import Fatal

Int64s = npt.NDArray[np.int64]

LOG_APPEND_TIME = 2
"""Kafka's number for a stamp that the broker set (confluent_kafka.TIMESTAMP_LOG_APPEND_TIME)."""


class Message(Protocol):
    """What the fold reads of a confluent_kafka.Message."""

    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Consumed:
    """Messages of one or several partitions, offsets rising within each.

    `stamp` is the broker's, in UTC microseconds. A message without a value has an empty one here.
    """

    partition: Int64s
    offset: Int64s
    stamp: Int64s
    keys: list[bytes | None]
    values: list[bytes]

    def __len__(self) -> int:
        return len(self.values)


def columns(messages: Sequence[Message]) -> Consumed:
    """Take messages apart; Fatal when one carries a producer's clock instead of the broker's."""
    size = len(messages)
    stamps = [message.timestamp() for message in messages]
    kinds = {kind for kind, _ in stamps}
    if kinds - {LOG_APPEND_TIME}:
        wrong = next(m for m, (kind, _) in zip(messages, stamps, strict=True) if kind != LOG_APPEND_TIME)
        raise Fatal(
            f"the message at partition {wrong.partition()}, offset {wrong.offset()} carries its producer's clock: the "
            "topic no longer has message.timestamp.type=LogAppendTime, and arrival times decide what is a duplicate. "
            "Set it back, then start the worker again"
        )
    return Consumed(
        partition=np.fromiter((m.partition() for m in messages), dtype=np.int64, count=size),
        offset=np.fromiter((m.offset() for m in messages), dtype=np.int64, count=size),
        stamp=np.fromiter((milliseconds for _, milliseconds in stamps), dtype=np.int64, count=size) * 1000,
        keys=[m.key() for m in messages],
        values=[m.value() or b"" for m in messages],
    )
