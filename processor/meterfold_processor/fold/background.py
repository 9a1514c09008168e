"""What the partitions of a worker do between batches: their identities come into memory, and tables are built."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from meterfold_processor.backoff import Backoff
from meterfold_processor.fold.partition import PartitionFold
from meterfold_schemas.errors import Retryable

_LOG = logging.getLogger("meterfold.fold")

SECONDS = 0.25
"""How long one turn of the worker spends on it, and the rest of a step: events are consumed and folded in between."""


class Background:
    """For the worker's own thread. `report` gets every Retryable, and None after a success."""

    def __init__(self, report: Callable[[Retryable | None], None]) -> None:
        self._report = report
        self._backoff = Backoff()
        self._not_before = 0.0

    def run(self, folds: Collection[PartitionFold], seconds: float = SECONDS) -> None:
        """Do steps of one partition after the other until nothing is left to do, for about this long."""
        begun = time.monotonic()
        if begun < self._not_before:
            return
        try:
            for fold in folds:  # one after the other: what a table needs while it is built is not needed twice
                while time.monotonic() - begun < seconds and fold.recall.step():
                    pass
        except Retryable as error:
            pause = self._backoff.next()
            self._not_before = time.monotonic() + pause
            self._report(error)
            _LOG.warning("%s; loading identities again in %.1f s", error, pause)
        else:
            self._backoff.reset()
            self._report(None)
