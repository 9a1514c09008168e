"""The first reading of a file: what of it can be counted, before anything of it is sent.

Found here are ids that repeat with other contents, of which the fold would count only the first, and times that it
would reject. Nothing is sent and nothing is written; the second reading sends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from meterfold_cli.console import ProgressCallback
from meterfold_cli.importing.identities import Identities
from meterfold_cli.importing.plan import Plan
from meterfold_cli.importing.rows import BadRow, Rows
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import MICROS_PER_SECOND, micros
from meterfold_schemas.usage_encoder import UsageEncoder
from meterfold_schemas.usage_fields import OPTIONAL
from meterfold_schemas.usage_rules import AgeProblem, age_problem

__all__ = ["CHECK_MARGIN_SECONDS", "SEND_MARGIN_SECONDS", "Checked", "Observer", "TimeLimits", "check"]

#: An event this close to the horizon would be too old by the time it is sent.
CHECK_MARGIN_SECONDS: Final = 60
SEND_MARGIN_SECONDS: Final = 5
_SHOWN: Final = 5
_TELL_ROWS: Final = 1000
_NAMES: Final = ("org_id", "subject_type", "subject_id")


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Which event times the fold accepts, by the stored rules. Times in seconds; the present in UTC microseconds."""

    horizon_seconds: int
    future_tolerance_seconds: int
    now: Callable[[], int] = lambda: time.time_ns() // 1000

    def problem(self, timestamp: int, margin_seconds: int) -> AgeProblem | None:
        """Why an event with this time would be rejected if it arrived within `margin_seconds` from now."""
        now = self.now()
        arrival = now + margin_seconds * MICROS_PER_SECOND
        horizon = self.horizon_seconds * MICROS_PER_SECOND
        tolerance = self.future_tolerance_seconds * MICROS_PER_SECOND
        if arrival - horizon <= timestamp <= now + tolerance:
            return None
        return age_problem(timestamp, arrival, horizon, None) or age_problem(timestamp, now, None, tolerance)


@dataclass(frozen=True, slots=True)
class Finding:
    """A row whose time the fold would reject. `column`: where its time comes from, if from one."""

    line: int
    problem: AgeProblem
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What one file holds. rows = rows with events + left_out + unusable.

    events: of all usable rows. left_out: rows that the mapping leaves out. unusable: rows that can't be events.
    repeats: events that repeat an earlier one exactly, which count once. conflicts: (line, line of a row with the same
    id and other contents). untimely: reason -> rows that the fold would reject. spaced: rows with spaces around the
    name of an organization or subject. rounded: quantities that lost digits. `untimely_shown` are the first ones.
    """

    rows: int
    unusable: int
    repeats: int
    conflicts: npt.NDArray[np.int64]
    untimely: dict[str, int]
    untimely_shown: tuple[Finding, ...]
    spaced: int
    first_spaced: int | None
    events: int = 0
    left_out: int = 0
    rounded: int = 0


class Observer(Protocol):
    """Sees every row while it is checked."""

    def event(self, line: int, event: dict[str, Any]) -> None: ...

    def refused(self, line: int, reason: str) -> None: ...


def check(
    rows: Rows,
    plan: Plan,
    org_id: str,
    limits: TimeLimits | None,
    tell: ProgressCallback,
    identities: Identities | None = None,
    *,
    observer: Observer | None = None,
    delivered_through: int = 0,
) -> Checked:
    """Read all rows. `org_id` is that of events without one; `limits` None checks no times, and those of rows up to
    `delivered_through` are not checked, because they were delivered before. Raises WrongInput."""
    encoder = UsageEncoder()
    count = events = left_out = unusable = spaced = 0
    first_spaced: int | None = None
    untimely: dict[str, int] = {}
    shown: list[Finding] = []
    time_columns = plan.sources.get("timestamp", ())
    time_column = time_columns[0] if time_columns else None
    with identities or Identities() as seen:
        for row in rows.rows():
            count += 1
            if count % _TELL_ROWS == 0:
                tell(rows.position, rows.total, f"{count:,} rows checked")
            try:
                if isinstance(row, BadRow):
                    raise InvalidUsage(row.reason)
                found = plan.events(row.values)
                if not found:
                    left_out += 1
                    continue
                stamp = 0
                for event in found:
                    stamp = micros(event["timestamp"])
                    _add(seen, encoder, event, stamp, org_id, row.line)
                    if observer is not None:
                        observer.event(row.line, event)
            except (InvalidUsage, OverflowError) as error:
                unusable += 1
                if observer is not None:
                    reason = str(error)
                    observer.refused(
                        row.line, reason if isinstance(row, BadRow) else plan.explained(reason, row.values)
                    )
                continue
            events += len(found)
            event = found[0]
            if any(name != name.strip() for name in [event[key] for key in _NAMES if key in event]):
                spaced += 1
                first_spaced = first_spaced or row.line
            if limits is None or row.line <= delivered_through:
                continue
            problem = limits.problem(stamp, CHECK_MARGIN_SECONDS)
            if problem is not None:
                untimely[problem.reason] = untimely.get(problem.reason, 0) + 1
                if len(shown) < _SHOWN:
                    shown.append(Finding(row.line, problem, time_column))
        repeats = seen.repeats()
    return Checked(
        rows=count,
        unusable=unusable,
        repeats=repeats.exact,
        conflicts=np.unique(repeats.conflicts, axis=0) if len(repeats.conflicts) else repeats.conflicts,
        untimely=untimely,
        untimely_shown=tuple(shown),
        spaced=spaced,
        first_spaced=first_spaced,
        events=events,
        left_out=left_out,
        rounded=plan.tally.rounded,
    )


def _add(seen: Identities, encoder: UsageEncoder, event: dict[str, Any], stamp: int, org_id: str, line: int) -> None:
    """Raises InvalidUsage for what the SDK would refuse."""
    subject = encoder.subject(
        event.get("org_id", org_id), event["metric_key"], event["subject_type"], event["subject_id"]
    )
    value = encoder.value(
        event["id"],
        subject,
        event.get("quantity", 1),
        stamp,
        *map(event.get, OPTIONAL),
    )
    seen.add(subject.key + event["id"].encode(), value, line)
