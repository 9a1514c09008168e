"""Flushes on a thread of their own, one after the other, while the next batch is folded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import nullcontext
from queue import SimpleQueue
from threading import Event, Thread

from meterfold_processor.backoff import persist
from meterfold_processor.fold.effects import Drive
from meterfold_processor.fold.flush import Operation, flush
from meterfold_processor.fold.partition import Folded
from meterfold_processor.fold.traces import FlushSpans
from meterfold_schemas.errors import Retryable

MAX_WAITING = 2
"""Flushes that may be under way or waiting: folding runs ahead of ClickHouse by at most this many batches."""


class Flusher:
    """Performs the steps of each flush in order, and of successive flushes one after the other.

    An operation that fails with Retryable is performed again until it succeeds or the flusher is stopped; `report`
    hears of it. Any other failure ends the flusher: no flush behind it may write its progress row, since that would
    pass over what has not been stored. (Found by `make chaos`: windows of a refused flush were lost for good.)
    """

    def __init__(
        self,
        drive: Drive,
        perform: Callable[[Operation], None],
        report: Callable[[Retryable | None], None],
        spans: FlushSpans | None = None,
    ) -> None:
        self._drive = drive
        self._spans = spans
        self._perform = perform
        self._report = report
        self._stop = Event()
        self._waiting: deque[tuple[int, Future[None]]] = deque()
        self._work: SimpleQueue[tuple[Future[None], list[Folded]] | None] = SimpleQueue()
        # A daemon: an executor's thread is waited for when the process ends, and a step may be stuck in a server that
        # does not answer for longer than a stop may take.
        Thread(target=self._run, name="meterfold-flush", daemon=True).start()

    @property
    def has_room(self) -> bool:
        """Whether another batch may be submitted."""
        return sum(not future.done() for _, future in self._waiting) < MAX_WAITING

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return all(future.done() for _, future in self._waiting)

    def submit(self, sequence: int, batch: list[Folded]) -> None:
        future: Future[None] = Future()
        self._waiting.append((sequence, future))
        self._work.put((future, batch))

    def finished(self) -> list[int]:
        """The sequence numbers of the flushes that are done since the last call, rising; raises what one raised."""
        done = []
        while self._waiting and self._waiting[0][1].done():
            sequence, future = self._waiting.popleft()
            future.result()
            done.append(sequence)
        return done

    def wait(self, seconds: float, *, for_all: bool = False) -> None:
        """Wait until the oldest flush, or all, are done, for at most this long; not at all once stopped."""
        futures = [future for _, future in self._waiting]
        if futures and not self._stop.is_set():
            wait(futures if for_all else futures[:1], timeout=seconds)

    def stop(self, seconds: float) -> None:
        """Let the flushes in progress end, for at most this long; what is not done then is folded again by the next
        worker."""
        self.wait(seconds, for_all=True)
        self._stop.set()
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, batch = work
            if self._stop.is_set():
                future.cancel()
                continue
            try:
                with nullcontext() if self._spans is None else self._spans.flush(batch):
                    self._flush(batch)
            except BaseException as failure:
                self._stop.set()
                future.set_exception(failure)
            else:
                future.set_result(None)

    def _flush(self, batch: list[Folded]) -> None:
        self._drive(flush(batch), lambda operation: persist(lambda: self._perform(operation), self._stop, self._report))
