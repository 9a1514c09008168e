"""The account of what was recorded: recorded = delivered + failed + outstanding, always.

`flush` waits for what was recorded before it was called, and not for what other threads record meanwhile. Reports of
different partitions come in any order, so one count cannot tell the two apart. Each event therefore belongs to a
numbered generation, which counts its own events without a report, and `cut` ends the present generation. A cut is done
when no generation up to its own is open. This costs one addition per event.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from meterfold.delivery import Delivery, DeliveryCounts

__all__ = ["Account", "Cut", "Generation"]


class Generation:
    """The events between two cuts. `on_delivery` is what librdkafka calls with the report of one of them."""

    __slots__ = ("number", "on_delivery", "outstanding")

    def __init__(self, number: int, on_delivery: Callable[[Generation], Any]) -> None:
        self.number = number
        self.outstanding = 0
        self.on_delivery = on_delivery(self)


class Cut:
    """What was recorded before a moment: the generations up to `number`."""

    __slots__ = ("_account", "_number")

    def __init__(self, account: Account, number: int) -> None:
        self._account = account
        self._number = number

    @property
    def done(self) -> bool:
        """Every event has its report."""
        return self._account.oldest > self._number

    @property
    def outstanding(self) -> int:
        """Events without a report."""
        return self._account.outstanding_until(self._number)

    def wait(self, timeout: float) -> bool:
        """Wait for other threads to serve the last reports, at most `timeout` seconds; whether it is done."""
        with self._account.changed:
            return self._account.changed.wait_for(lambda: self.done, timeout)


class Account:
    """Counts, generations, and the failures that no flush has raised yet. Every method may be called by any thread.

    Who records an event adds one to `recorded` and to `present.outstanding`, holding `lock`. A method for that would be
    slower, and every event pays for it.

    Until a flush raises them, at most `keep_events` failures and `keep_bytes` bytes are kept; all of them are counted.
    """

    def __init__(self, on_delivery: Callable[[Generation], Any], *, keep_events: int, keep_bytes: int) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        #: The number of the oldest generation that has, or may get, events without a report.
        self.oldest = 0
        self._on_delivery = on_delivery
        self.recorded = self._delivered = self._failed = 0
        self._reported_at = time.monotonic()
        self.present = Generation(0, on_delivery)
        self._closed: OrderedDict[int, Generation] = OrderedDict()  # by number; each has events without a report
        self._keep_events, self._keep_bytes = keep_events, keep_bytes
        self._failures: list[Delivery] = []
        self._kept_bytes = 0
        self._unraised = 0

    def withdraw(self, generation: Generation, events: int = 1) -> None:
        """The events (1 or more) were not taken after all."""
        with self.lock:
            self.recorded -= events
            generation.outstanding -= events - 1
            self._end(generation)

    def delivered(self, generation: Generation) -> None:
        with self.lock:
            self._delivered += 1
            self._end(generation)

    def failed(self, generation: Generation, report: Delivery, *, raised: bool) -> None:
        """`raised`: somebody else raises this failure, so a flush does not."""
        with self.lock:
            self._failed += 1
            if not raised:
                self._keep(report)
            self._end(generation)

    def batch_ended(self, generation: Generation, *, delivered: int, failed: int) -> None:
        """Every event of a batch has its report. Whoever recorded the batch raises its failures, not a flush."""
        with self.lock:
            self._delivered += delivered
            self._failed += failed
            generation.outstanding -= delivered + failed - 1
            self._end(generation)

    def progressed(self) -> None:
        """A report came; its batch has not ended yet."""
        self._reported_at = time.monotonic()

    def put_back(self, report: Delivery) -> None:
        """A failure that somebody else was to raise was not raised: the next flush raises it."""
        with self.lock:
            self._keep(report)

    def cut(self) -> Cut:
        """What has been recorded until now."""
        with self.lock:
            present = self.present
            if present.outstanding:
                self._closed[present.number] = present
                self.present = Generation(present.number + 1, self._on_delivery)
            return Cut(self, self.present.number - 1)

    def counts(self) -> DeliveryCounts:
        with self.lock:
            return DeliveryCounts(self.recorded, self._delivered, self._failed)

    def outstanding_until(self, number: int) -> int:
        """Events without a report in the generations up to `number`."""
        with self.lock:
            return sum(generation.outstanding for generation in self._closed.values() if generation.number <= number)

    def seconds_without_report(self) -> float:
        """How long ago the last report came, or the account began."""
        return time.monotonic() - self._reported_at

    def take_failures(self) -> tuple[int, tuple[Delivery, ...]]:
        """How many have failed since the last call, and the first of them."""
        with self.lock:
            failed, failures = self._unraised, tuple(self._failures)
            self._unraised = self._kept_bytes = 0
            self._failures = []
        return failed, failures

    def _keep(self, report: Delivery) -> None:
        self._unraised += 1
        size = len(report.value or b"")
        if not self._failures or (
            len(self._failures) < self._keep_events and self._kept_bytes + size <= self._keep_bytes
        ):
            self._failures.append(report)
            self._kept_bytes += size

    def _end(self, generation: Generation) -> None:
        self._reported_at = time.monotonic()
        generation.outstanding -= 1
        if generation is self.present or generation.outstanding:
            return
        del self._closed[generation.number]
        # The present generation counts as open, though it may be empty: it belongs to no cut yet.
        self.oldest = next(iter(self._closed), self.present.number)
        self.changed.notify_all()
