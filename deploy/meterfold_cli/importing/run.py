"""Record the rows of a file with the SDK, and account for each: delivered, refused with its line, or not delivered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from meterfold import BufferFull, Delivery, FlushTimeout, InvalidUsage, Meter, UndeliveredEvents
from meterfold_cli.console import ProgressCallback
from meterfold_cli.importing.checking import SEND_MARGIN_SECONDS, TimeLimits
from meterfold_cli.importing.plan import Plan
from meterfold_cli.importing.rejects import Rejects
from meterfold_cli.importing.rows import BadRow, Row, Rows
from meterfold_schemas.periods import micros
from meterfold_schemas.plurals import plural

__all__ = ["CHECKPOINT_SECONDS", "STALL_SECONDS", "Import", "Summary"]

#: Seconds without a single delivered event, while some wait, after which an import ends.
STALL_SECONDS: Final = 30.0
#: How often an import waits until everything so far is delivered, and remembers that.
CHECKPOINT_SECONDS: Final = 5.0
_TELL_ROWS: Final = 1000
_FLUSH_SECONDS: Final = 0.5
_INTERRUPTED_SECONDS: Final = 2.0
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """read = rows with events + left_out + refused + skipped, when it was not stopped; handed_in = delivered + failed,
    in events.

    skipped: rows that an earlier run delivered. delivered_through: the line up to which everything is delivered; 0 if
    unknown.
    """

    read: int
    handed_in: int
    delivered: int
    failed: int
    refused: int
    last_line: int
    complete: bool
    interrupted: bool
    seconds: float
    rejects: Path | None
    first_failure: str | None
    first_refusals: tuple[str, ...]
    left_out: int = 0
    skipped: int = 0
    delivered_through: int = 0
    resume: bool = False
    """Whether --resume can continue it: a position is saved."""

    @property
    def well(self) -> bool:
        return self.complete and not self.failed and not self.refused


class _Stalled(Exception):
    """The brokers confirm nothing any more."""


class Import:
    """The second reading of a file, which sends. Memory does not grow with the file: a slice of rows and the SDK's
    bounded buffer.

    Rows that can't be events, rows whose time the fold would reject by now, and rows whose id another row of the file
    has with other contents (`conflicts`, see Checked) go to the rejects file. It stops at the first event whose
    delivery failed, and when no event was delivered for `stall_seconds`: then the cluster is not well, and the whole
    file can be imported again, since an id that did arrive counts once. `skip_through`: rows up to this line were
    delivered by an earlier run. `checkpoint` is called with a line when everything up to it is delivered.
    """

    def __init__(
        self,
        rows: Rows,
        plan: Plan,
        meter: Meter,
        rejects: Rejects,
        tell: ProgressCallback,
        *,
        limits: TimeLimits | None = None,
        conflicts: npt.NDArray[np.int64] | None = None,
        skip_through: int = 0,
        checkpoint: Callable[[int], None] | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self._rows = rows
        self._plan = plan
        self._meter = meter
        self._rejects = rejects
        self._tell = tell
        self._limits = limits
        self._conflicts = _pairs(conflicts)
        self._next_conflict = next(self._conflicts, None)
        self._skip_through = skip_through
        self._checkpoint = checkpoint
        self._checkpoint_seconds = checkpoint_seconds
        self._stall_seconds = stall_seconds
        self._read = self._last_line = self._left_out = self._skipped = 0
        self._done_line = self._delivered_through = skip_through
        self._refusals: list[str] = []
        self._failures: list[Delivery] = []
        self._stall: str | None = None
        self._seen_delivered = 0
        self._seen_at = self._saved_at = time.monotonic()

    def run(self) -> Summary:
        """Raises WrongInput if the rest of the file cannot be read. Closes the Meter."""
        start = time.monotonic()
        complete = interrupted = False
        try:
            complete = self._hand_in_all() and self._deliver()
        except KeyboardInterrupt:
            interrupted = True
        except _Stalled as stall:
            self._stall = str(stall)
        finally:
            self._close()
        counts = self._meter.counts
        if counts.recorded == counts.delivered:
            self._reached(self._done_line)
        return Summary(
            read=self._read,
            handed_in=counts.recorded,
            delivered=counts.delivered,
            failed=counts.recorded - counts.delivered,
            refused=self._rejects.count,
            last_line=self._last_line,
            complete=complete,
            interrupted=interrupted,
            seconds=time.monotonic() - start,
            rejects=self._rejects.path,
            first_failure=self._stall or (self._failures[0].error if self._failures else None),
            first_refusals=tuple(self._refusals),
            left_out=self._left_out,
            skipped=self._skipped,
            delivered_through=self._delivered_through,
        )

    def _hand_in_all(self) -> bool:
        for row in self._rows.rows():
            try:
                self._take(row)
            except BufferFull:
                return False
            self._done_line = row.line
            if self._read % _TELL_ROWS == 0:
                self._show()
                if self._meter.counts.failed:
                    return False
                if time.monotonic() - self._saved_at >= self._checkpoint_seconds and self._checkpoint is not None:
                    if not self._deliver():
                        return False
                    self._reached(self._done_line)
        return True

    def _take(self, row: Row | BadRow) -> None:
        self._read += 1
        self._last_line = row.line
        if row.line <= self._skip_through:
            self._skipped += 1
            return
        if isinstance(row, BadRow):
            self._refuse(row, row.reason)
            return
        try:
            events = self._plan.events(row.values)
            if not events:
                self._left_out += 1
                return
            self._check(row.line, events)
            for event in events:
                self._record(event.pop("metric_key"), (event.pop("subject_type"), event.pop("subject_id")), event)
        except InvalidUsage as error:
            self._refuse(row, self._plan.explained(str(error), row.values))

    def _check(self, line: int, events: Sequence[dict[str, Any]]) -> None:
        """Raises InvalidUsage for what the fold would not count as it is. The events of a row share id and time."""
        while self._next_conflict is not None and self._next_conflict[0] < line:
            self._next_conflict = next(self._conflicts, None)
        if self._next_conflict is not None and self._next_conflict[0] == line:
            raise InvalidUsage(
                f"id {events[0]['id']!r} is also the id of {self._rows.what} {self._next_conflict[1]}, which has "
                "different contents; only one of them can count"
            )
        if self._limits is not None:
            problem = self._limits.problem(micros(events[0]["timestamp"]), SEND_MARGIN_SECONDS)
            if problem is not None:
                raise InvalidUsage(str(problem))

    def _refuse(self, row: Row | BadRow, reason: str) -> None:
        self._rejects.add(row.line, reason, row.values)
        if len(self._refusals) < _SHOWN:
            self._refusals.append(f"{self._rows.what} {row.line}: {reason}")

    def _record(self, metric_key: str, subject: tuple[str, str], event: dict[str, Any]) -> None:
        while True:
            try:
                self._meter.record(metric_key, subject, **event)
                return
            except BufferFull:
                # Nothing is lost by waiting; a failed delivery or brokers that confirm nothing end it.
                self._show()
                if self._meter.counts.failed:
                    raise

    def _deliver(self) -> bool:
        while True:
            try:
                self._meter.flush(_FLUSH_SECONDS)
                return True
            except FlushTimeout:
                self._show()
            except UndeliveredEvents as error:
                self._failures.extend(error.failures)
                return False

    def _reached(self, line: int) -> None:
        """Everything up to this line is delivered."""
        self._saved_at = time.monotonic()
        if line > self._delivered_through:
            self._delivered_through = line
            if self._checkpoint is not None:
                self._checkpoint(line)

    def _close(self) -> None:
        try:
            self._meter.close(_INTERRUPTED_SECONDS)
        except UndeliveredEvents as error:
            self._failures.extend(error.failures)
        self._rows.close()
        self._rejects.close()

    def _show(self) -> None:
        counts = self._meter.counts
        text = f"{self._read:,} rows read, {counts.delivered:,} delivered"
        trouble = self._meter.trouble if counts.outstanding else None
        if trouble:
            text += f"; waiting for Kafka: {trouble}"
        now = time.monotonic()
        if counts.delivered != self._seen_delivered or not counts.outstanding:
            self._seen_delivered, self._seen_at = counts.delivered, now
        elif now - self._seen_at >= self._stall_seconds:
            waited = f"no event was delivered for {plural(round(now - self._seen_at), 'second')}"
            raise _Stalled(f"{waited}: {trouble}" if trouble else waited)
        # What is read but not delivered is not done: the bar ends with the last report.
        share = counts.delivered / counts.recorded if counts.recorded else 0.0
        self._tell(int(self._rows.position * share), self._rows.total, text)


def _pairs(conflicts: npt.NDArray[np.int64] | None) -> Iterator[tuple[int, int]]:
    if conflicts is not None:
        for line, other in conflicts:
            yield int(line), int(other)
