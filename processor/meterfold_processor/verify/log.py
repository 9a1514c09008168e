"""The log of usage.recorded: which offsets hold a message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Message

from meterfold_processor.verify.scan import Place, Scanner
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics

__all__ = ["Gap", "LogReader", "runs"]

#: Reading over so many messages is faster than seeking.
_SKIP: Final = 20_000


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Offsets first to last, both among them, that no table holds."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


class LogReader:
    """For one thread. Every method raises Retryable or Fatal."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._topic = Topics(settings.topic_prefix).usage_recorded
        self._scanner = Scanner(settings)

    def read(self, partition: int, first: int, until: int) -> Iterator[list[Message]]:
        """The messages of [first, until), in order."""
        place = Place(self._topic, partition)
        return self._scanner.read({place: first}, {place: until})

    def has_message(self, partition: int, first: int, until: int) -> bool:
        """Whether anything in [first, until) is a message, or may still become one."""
        place = Place(self._topic, partition)
        for _ in self._scanner.read({place: first}, {place: until}, stop_at_open=True):
            return True
        return self._scanner.positions[place] < until

    def messages_at(self, partition: int, gaps: Sequence[Gap]) -> Iterator[Message]:
        """The messages at these offsets (gaps in order, none of them touching): there should be none."""
        for run in runs(gaps):
            place = 0
            for batch in self.read(partition, run[0].first, run[-1].last + 1):
                for message in batch:
                    offset = message.offset() or 0
                    while place < len(run) and run[place].last < offset:
                        place += 1
                    if place < len(run) and run[place].first <= offset:
                        yield message

    def close(self) -> None:
        self._scanner.close()


def runs(gaps: Sequence[Gap]) -> list[list[Gap]]:
    """Gaps that lie near to each other together: each run is read in one go."""
    found: list[list[Gap]] = []
    for gap in gaps:
        if found and gap.first - found[-1][-1].last <= _SKIP:
            found[-1].append(gap)
        else:
            found.append([gap])
    return found
