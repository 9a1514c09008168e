"""The progress of fold and checker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from meterfold_local.errors import StackError
from meterfold_local.stack import LocalStack
from meterfold_processor.kafka.groups import CommittedOffsets
from meterfold_processor.kafka.offsets import log_bounds, topic_bounds
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.topics import Topics
from meterfold_sink import fold_state
from meterfold_sink.client import Client

LOOK_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over all partitions."""

    counted: int
    duplicates: int
    rejected: int

    @property
    def folded(self) -> int:
        return self.counted + self.duplicates + self.rejected


class Watch:
    """Reads the progress of a running stack. For one thread."""

    def __init__(self, stack: LocalStack, client: Client, partitions: int) -> None:
        self._stack = stack
        self._client = client
        self._partitions = range(partitions)
        self._topics = Topics()

    def counts(self) -> Counts:
        rows = fold_state.read_progress(self._client).values()
        return Counts(
            sum(row.counted for row in rows), sum(row.duplicates for row in rows), sum(row.rejected for row in rows)
        )

    def wait_until_folded(self, show: Callable[[Counts], None], stop: threading.Event, deadline: float) -> Counts:
        """Until the fold has everything that is in the log now. StackError when it has not by the deadline."""
        ends = {
            partition: end
            for partition, (_, end) in log_bounds(
                self._stack.kafka_settings(), self._topics.usage_recorded, self._partitions
            ).items()
        }

        def folded() -> bool:
            show(self.counts())
            rows = fold_state.read_progress(self._client)
            return all(end == 0 or (p in rows and rows[p].next_offset >= end) for p, end in ends.items())

        self._wait(folded, "the fold to finish", stop, deadline)
        return self.counts()

    def wait_until_checked(self, group: str, stop: threading.Event, deadline: float) -> None:
        """Until the checker has read everything that the fold has published."""
        settings, topic = self._stack.kafka_settings(), self._topics.usage_windows
        reader = CommittedOffsets(settings, group)

        def caught_up() -> bool:
            _, ends = topic_bounds(settings, {topic: len(self._partitions)})
            found = reader.read(ends)
            return all(end == 0 or found.get(place, -1) >= end for place, end in ends.items())

        try:
            self._wait(caught_up, "the checker to finish", stop, deadline)
        except MeterfoldError as error:
            raise StackError(f"the checker's position cannot be read: {error}") from error
        finally:
            reader.close()

    def _wait(self, condition: Callable[[], bool], what: str, stop: threading.Event, deadline: float) -> None:
        end = time.monotonic() + deadline
        while not condition():
            self._stack.check()
            if time.monotonic() > end:
                raise StackError(f"waited {deadline:.0f} s for {what} in vain; see the logs in {self._stack.logs}")
            if stop.wait(LOOK_SECONDS):
                raise KeyboardInterrupt
