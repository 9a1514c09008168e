"""The log of usage.recorded: the offsets that a verification is about, and which of them hold a message.

The offsets are fixed before anything else is read. "Folded" means: a read_committed read from the progress to the end
that was captured finds no message. The last offset of a partition may be a transaction's marker, which no progress row
ever passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from confluent_kafka import Message

from meterfold_processor.kafka.offsets import Place, bounds
from meterfold_processor.kafka.reader import TopicReader
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import Client
from meterfold_sink.fold_state import ProgressRow, read_progress
from meterfold_sink.positions import Span

__all__ = ["Fixed", "Gap", "Log", "by_partition", "fix_offsets", "runs"]

#: Reading over this many messages is faster than seeking.
_SKIP: Final = 20_000
_LOOK_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """Offsets first to last, both included, that no table holds."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Fixed:
    """One partition. The log's bounds were read after the progress; `progress` is None where nothing was folded.

    `unfolded`: messages from before the call are not folded yet. `open_at`: the offset of a transaction that was open.
    """

    partition: int
    log_start: int
    log_end: int
    progress: ProgressRow | None
    unfolded: bool
    open_at: int | None = None


class Log:
    """usage.recorded through one reader. For one thread. Every method raises Retryable or Fatal."""

    def __init__(self, settings: KafkaSettings, reader: TopicReader) -> None:
        self._settings = settings
        self._topic = Topics(settings.topic_prefix).usage_recorded
        self._reader = reader

    def bounds(self, partitions: Iterable[int]) -> dict[int, tuple[int, int]]:
        """partition -> (first offset, offset after the end), open transactions included."""
        found = bounds(self._settings, [Place(self._topic, partition) for partition in partitions])
        return {place.partition: edges for place, edges in found.items()}

    def read(self, spans: Sequence[Span]) -> Iterator[list[Message]]:
        """The messages of the spans, each partition's in order."""
        starts = {Place(self._topic, span.partition): span.first for span in spans}
        ends = {Place(self._topic, span.partition): span.until for span in spans}
        return self._reader.scan(starts, ends)

    def with_messages(self, spans: Sequence[Span]) -> dict[int, int | None]:
        """The partitions that have a message in their span, or may still get one there: with the offset of the open
        transaction, None where a message is there."""
        starts = {Place(self._topic, span.partition): span.first for span in spans}
        ends = {Place(self._topic, span.partition): span.until for span in spans}
        found = self._reader.heads(starts, ends)
        positions = self._reader.positions
        still_open = {place.partition: at for place, at in positions.items() if place not in found and at < ends[place]}
        return {**dict.fromkeys((place.partition for place in found), None), **still_open}

    def messages_at(self, partition: int, gaps: Sequence[Gap]) -> Iterator[Message]:
        """The messages at these offsets (gaps in order, none of them touching): there should be none."""
        for run in runs(gaps):
            place = 0
            for batch in self.read([Span(partition, run[0].first, run[-1].last + 1)]):
                for message in batch:
                    offset = message.offset() or 0
                    while place < len(run) and run[place].last < offset:
                        place += 1
                    if place < len(run) and run[place].first <= offset:
                        yield message


def by_partition(messages: Iterable[Message]) -> dict[int, list[Message]]:
    """The same messages by the number of their partition, in order. They come in runs of one partition."""
    found: dict[int, list[Message]] = {}
    for partition, run in groupby(messages, Message.partition):
        found.setdefault(partition or 0, []).extend(run)
    return found


def runs(gaps: Sequence[Gap]) -> list[list[Gap]]:
    """Gaps that lie near to each other together: each run is read in one go."""
    found: list[list[Gap]] = []
    for gap in gaps:
        if found and gap.first - found[-1][-1].last <= _SKIP:
            found[-1].append(gap)
        else:
            found.append([gap])
    return found


def fix_offsets(
    log: Log, client: Client, partitions: Iterable[int], wait_seconds: float, tell: Callable[[str], None]
) -> list[Fixed]:
    """Every partition's progress, once everything appended before the call is folded or `wait_seconds` have passed.

    Raises Retryable or Fatal.
    """
    wanted = sorted(partitions)
    ends = log.bounds(wanted)
    deadline = time.monotonic() + wait_seconds
    unfolded: dict[int, int | None] = dict.fromkeys(wanted)
    while True:
        progress = read_progress(client)
        unfolded = log.with_messages([_behind(ends[p], p, progress) for p in sorted(unfolded)])
        if not unfolded or time.monotonic() >= deadline:
            break
        tell(f"waiting until partitions {', '.join(map(str, sorted(unfolded)))} are folded")
        time.sleep(min(_LOOK_SECONDS, max(0.0, deadline - time.monotonic())))
    # The progress may have passed the ends that were captured at the call: what is compared with it comes after it.
    edges = log.bounds(wanted)
    return [Fixed(p, *edges[p], progress.get(p), p in unfolded, unfolded.get(p)) for p in wanted]


def _behind(edges: tuple[int, int], partition: int, progress: Mapping[int, ProgressRow]) -> Span:
    """What is not folded of the offsets within `edges`."""
    start, end = edges
    row = progress.get(partition)
    return Span(partition, max(start, row.next_offset) if row else start, end)
