"""Record the rows of a file with the SDK, and account for each: delivered, refused with its line, or not delivered."""

from __future__ import annotations

import time
from collections.abc import Iterator
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

_TELL_ROWS: Final = 1000
_FLUSH_SECONDS: Final = 0.5
_INTERRUPTED_SECONDS: Final = 2.0
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """read = handed_in + refused, when it was not stopped; handed_in = delivered + failed."""

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

    @property
    def well(self) -> bool:
        return self.complete and not self.failed and not self.refused


class Import:
    """The second reading of a file, which sends. Memory does not grow with the file: a slice of rows and the SDK's
    bounded buffer.

    Rows that can't be events, rows whose time the fold would reject by now, and rows whose id another row of the file
    has with other contents (`conflicts`, see Checked) go to the rejects file. It stops at the first event whose
    delivery failed: then the cluster is not well, and the whole file can be imported again, since an id that did
    arrive counts once.
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
    ) -> None:
        self._rows = rows
        self._plan = plan
        self._meter = meter
        self._rejects = rejects
        self._tell = tell
        self._limits = limits
        self._conflicts = _pairs(conflicts)
        self._next_conflict = next(self._conflicts, None)
        self._read = self._last_line = 0
        self._refusals: list[str] = []
        self._failures: list[Delivery] = []

    def run(self) -> Summary:
        """Raises WrongInput if the rest of the file cannot be read. Closes the Meter."""
        start = time.monotonic()
        complete = interrupted = False
        try:
            complete = self._hand_in_all() and self._deliver()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            self._close()
        counts = self._meter.counts
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
            first_failure=self._failures[0].error if self._failures else None,
            first_refusals=tuple(self._refusals),
        )

    def _hand_in_all(self) -> bool:
        for row in self._rows.rows():
            try:
                self._take(row)
            except BufferFull:
                return False
            if self._read % _TELL_ROWS == 0:
                self._show()
                if self._meter.counts.failed:
                    return False
        return True

    def _take(self, row: Row | BadRow) -> None:
        self._read += 1
        self._last_line = row.line
        if isinstance(row, BadRow):
            self._refuse(row, row.reason)
            return
        try:
            event = self._plan.event(row.values)
            self._check(row.line, event)
            self._record(event.pop("metric_key"), (event.pop("subject_type"), event.pop("subject_id")), event)
        except InvalidUsage as error:
            self._refuse(row, self._plan.explained(str(error), row.values))

    def _check(self, line: int, event: dict[str, Any]) -> None:
        """Raises InvalidUsage for what the fold would not count as it is."""
        while self._next_conflict is not None and self._next_conflict[0] < line:
            self._next_conflict = next(self._conflicts, None)
        if self._next_conflict is not None and self._next_conflict[0] == line:
            raise InvalidUsage(
                f"id {event['id']!r} is also the id of {self._rows.what} {self._next_conflict[1]}, which has different "
                "contents; only one of them can count"
            )
        if self._limits is not None:
            problem = self._limits.problem(micros(event["timestamp"]), SEND_MARGIN_SECONDS)
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
                # Nothing is lost by waiting; what ends it is the SDK's delivery timeout, as a failed delivery.
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
        if counts.outstanding and (trouble := self._meter.trouble):
            text += f"; waiting for Kafka: {trouble}"
        # What is read but not delivered is not done: the bar ends with the last report.
        share = counts.delivered / counts.recorded if counts.recorded else 0.0
        self._tell(int(self._rows.position * share), self._rows.total, text)


def _pairs(conflicts: npt.NDArray[np.int64] | None) -> Iterator[tuple[int, int]]:
    if conflicts is not None:
        for line, other in conflicts:
            yield int(line), int(other)
