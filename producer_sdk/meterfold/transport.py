"""What a Meter hands its encoded events to: librdkafka (sender.py), nothing (disabled.py), or a test (testing/)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

from meterfold.account import Account, Cut, Generation
from meterfold.delivery import Delivery, DeliveryCounts, ReportCallback
from meterfold.errors import BufferFull, FlushTimeout, MeterClosed, MeterfoldError, UndeliveredEvents

__all__ = ["Transport"]

_KEEP_EVENTS: Final = 100_000
_KEEP_BYTES: Final = 64 * 1024 * 1024


class Transport(ABC):
    """Takes events and accounts for each of them. Every method may be called from any thread.

    `on_progress` is called, from whichever thread serves reports, after some were served or the transport was closed:
    there may be room, a cut may be done. It must not block.
    """

    on_progress: Callable[[], None]

    def __init__(self, *, keep_events: int = _KEEP_EVENTS, keep_bytes: int = _KEEP_BYTES) -> None:
        self.on_progress = _nothing
        self._keep = {"keep_events": keep_events, "keep_bytes": keep_bytes}
        self._renew()

    def _renew(self) -> None:
        """A new account: at the start, and in a forked child."""
        self._account = Account(self._on_delivery_of, **self._keep)
        self._closed = False

    @abstractmethod
    def send(
        self, key: bytes, value: bytes, wait: float | None = None, on_report: ReportCallback | None = None
    ) -> None:
        """Take one event. `wait`: seconds to wait for room; None is buffer_timeout.

        Raises BufferFull if there was no room in that time, MeterClosed after close, NotRecorded if the event cannot
        be taken for another reason; then nothing was taken.
        """

    def send_many(self, keys: Sequence[bytes], values: Sequence[bytes], first: int, last: int) -> int:
        """Take the events from `first` to before `last` while there is room; how many were taken.

        `send` says why the next one was not, or waits for room. Raises MeterClosed.
        """
        for place in range(first, last):
            try:
                self.send(keys[place], values[place], 0.0)
            except MeterClosed:
                raise
            except MeterfoldError:
                return place - first
        return last - first

    @abstractmethod
    def wait_for(self, cut: Cut, timeout: float | None, idle: float | None = None) -> None:
        """Block until the cut is done, at most `timeout` seconds, and until no report has come for `idle` seconds."""

    @abstractmethod
    def free(self) -> None:
        """Report what is outstanding as failed (2 s at most) and free everything."""

    @property
    @abstractmethod
    def trouble(self) -> str | None:
        """What keeps the client from delivering, if anything does."""

    @property
    @abstractmethod
    def freed(self) -> bool:
        """No more reports will come."""

    def flush(self, timeout: float | None = None) -> None:
        """Wait until what was recorded before this call is reported, `timeout` in seconds (None: no limit).

        Raises UndeliveredEvents if events failed since the last flush, FlushTimeout if some have no report yet.
        """
        cut = self.cut()
        self.wait_for(cut, timeout)
        self.end_flush(cut, timeout)

    def end_flush(self, cut: Cut, timeout: float | None) -> None:
        """Raise what a flush has to raise after it has waited."""
        self.raise_failures()
        if timeout is not None and (outstanding := cut.outstanding) > 0:
            raise FlushTimeout(outstanding, timeout, self.trouble)

    def close(self, timeout: float, idle: float | None = None) -> None:
        """Send what was taken within `timeout` seconds, report the rest as failed, and free everything.

        With `idle` it also ends once no report has come for that many seconds. Raises UndeliveredEvents if events
        failed that no flush has raised. Closing twice is harmless.
        """
        self.take_no_more()
        try:
            self.wait_for(self.cut(), timeout, idle)
        finally:  # after Ctrl-C, too: every event gets its report
            self.free()
        self.raise_failures()

    def take_no_more(self) -> None:
        """The first step of closing: from now on `send` raises MeterClosed."""
        with self._account.lock:
            self._closed = True
        self.on_progress()

    def cut(self) -> Cut:
        """What has been recorded until now."""
        return self._account.cut()

    def raise_failures(self) -> None:
        """Raises UndeliveredEvents for the events that failed since the last call."""
        failed, failures = self._account.take_failures()
        if failed:
            raise UndeliveredEvents(failed, failures)

    def put_back(self, report: Delivery) -> None:
        """The failure of an event whose `on_report` returned True, but which was not raised: a flush raises it."""
        self._account.put_back(report)

    def full(self, waited: float) -> BufferFull:
        """The error of an event that found no room in `waited` seconds."""
        return BufferFull(f"the buffer had no room for {waited:g} s; the event was not taken")

    def counts(self) -> DeliveryCounts:
        return self._account.counts()

    def seconds_without_report(self) -> float:
        return self._account.seconds_without_report()

    @property
    def closed(self) -> bool:
        return self._closed

    def _on_delivery_of(self, generation: Generation) -> Any:
        """What is called with the report of an event of this generation."""
        return None

    @staticmethod
    def _after_close() -> MeterClosed:
        return MeterClosed("this Meter is closed; make a new one")


def _nothing() -> None:
    pass
