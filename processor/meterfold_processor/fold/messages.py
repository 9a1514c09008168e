"""Consumed messages as columns: what the rest of the fold works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from meterfold_schemas.errors import Fatal

Int64s = npt.NDArray[np.int64]

LOG_APPEND_TIME = 2
"""Kafka's number for a stamp that the broker set (confluent_kafka.TIMESTAMP_LOG_APPEND_TIME)."""


Headers = Any
"""Of one message: a list of names and values, or None where it has none."""


class Message(Protocol):
    """What the fold reads of a confluent_kafka.Message."""

    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers: ...


@dataclass(frozen=True, slots=True)
class Consumed:
    """Messages of one or several partitions, offsets rising within each.

    `stamp` is the broker's, in UTC microseconds. A message without a value has an empty one here. `headers` is None
    where nothing asked for them.
    """

    partition: Int64s
    offset: Int64s
    stamp: Int64s
    keys: list[bytes | None]
    values: list[bytes]
    headers: list[Headers] | None = None

    def __len__(self) -> int:
        return len(self.values)


def columns(messages: Sequence[Message], *, with_headers: bool = False) -> Consumed:
    """Take messages apart; Fatal when one carries a producer's clock instead of the broker's.

    The methods are mapped as they stand in the class of the messages, all of which are of one class: a generator or a
    look-up per message costs twice as much.
    """
    size = len(messages)
    kind = type(messages[0]) if messages else Message
    stamps = np.fromiter(chain.from_iterable(map(kind.timestamp, messages)), np.int64, 2 * size).reshape(size, 2)
    wrong = np.flatnonzero(stamps[:, 0] != LOG_APPEND_TIME)
    if len(wrong):
        first = messages[wrong[0]]
        raise Fatal(
            f"the message at partition {first.partition()}, offset {first.offset()} carries its producer's clock: the "
            "topic no longer has message.timestamp.type=LogAppendTime, and arrival times decide what is a duplicate. "
            "Set it back, then start the worker again"
        )
    return Consumed(
        partition=np.fromiter(map(kind.partition, messages), np.int64, size),
        offset=np.fromiter(map(kind.offset, messages), np.int64, size),
        stamp=stamps[:, 1] * 1000,
        keys=list(map(kind.key, messages)),
        values=[value or b"" for value in map(kind.value, messages)],
        headers=_headers(kind, messages) if with_headers else None,
    )


def _headers(kind: type[Message], messages: Sequence[Message]) -> list[Headers]:
    try:
        return list(map(kind.headers, messages))
    except UnicodeDecodeError:  # a name that is not UTF-8, from a producer of another make
        return [_readable(message) for message in messages]


def _readable(message: Message) -> Headers:
    try:
        return message.headers()
    except UnicodeDecodeError:
        return None
