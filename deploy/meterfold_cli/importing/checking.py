"""The first reading of a file: what of it can be counted, before anything of it is sent.

Found here are ids that repeat with other contents, of which the fold would count only the first, and times that it
would reject. Nothing is sent and nothing is written; the second reading sends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from meterfold_cli.console import ProgressCallback
from meterfold_cli.importing.identities import Identities
from meterfold_cli.importing.plan import Plan
from meterfold_cli.importing.rows import BadRow, Row, Rows
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.periods import MICROS_PER_SECOND, micros
from meterfold_schemas.usage_encoder import UsageEncoder
from meterfold_schemas.usage_fields import OPTIONAL
from meterfold_schemas.usage_rules import AgeProblem, age_problem

__all__ = ["CHECK_MARGIN_SECONDS", "SEND_MARGIN_SECONDS", "Checked", "TimeLimits", "check"]

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
    """A row whose time the fold would reject."""

    line: int
    problem: AgeProblem


@dataclass(frozen=True, slots=True)
class Checked:
    """What one file holds. rows = events + unusable.

    unusable: rows that can't be events. repeats: rows that repeat an earlier one exactly, which count once. conflicts:
    (line, line of a row with the same id and other contents). untimely: reason -> rows that the fold would reject.
    spaced: rows with spaces around the name of an organization or subject. `untimely_shown` are the first ones.
    """

    rows: int
    unusable: int
    repeats: int
    conflicts: npt.NDArray[np.int64]
    untimely: dict[str, int]
    untimely_shown: tuple[Finding, ...]
    spaced: int
    first_spaced: int | None


def check(
    rows: Rows,
    plan: Plan,
    org_id: str,
    limits: TimeLimits | None,
    tell: ProgressCallback,
    identities: Identities | None = None,
) -> Checked:
    """Read all rows. `org_id` is that of events without one; `limits` None checks no times. Raises WrongInput."""
    encoder = UsageEncoder()
    count = unusable = spaced = 0
    first_spaced: int | None = None
    untimely: dict[str, int] = {}
    shown: list[Finding] = []
    with identities or Identities() as seen:
        for row in rows.rows():
            count += 1
            if count % _TELL_ROWS == 0:
                tell(rows.position, rows.total, f"{count:,} rows checked")
            event = _event(row, plan)
            try:
                if event is None:
                    raise InvalidUsage("not an event")
                stamp = micros(event["timestamp"])
                _add(seen, encoder, event, stamp, org_id, row.line)
            except (InvalidUsage, OverflowError):
                unusable += 1
                continue
            if any(name != name.strip() for name in [event[key] for key in _NAMES if key in event]):
                spaced += 1
                first_spaced = first_spaced or row.line
            problem = None if limits is None else limits.problem(stamp, CHECK_MARGIN_SECONDS)
            if problem is not None:
                untimely[problem.reason] = untimely.get(problem.reason, 0) + 1
                if len(shown) < _SHOWN:
                    shown.append(Finding(row.line, problem))
        repeats = seen.repeats()
    return Checked(count, unusable, repeats.exact, repeats.conflicts, untimely, tuple(shown), spaced, first_spaced)


def _event(row: Row | BadRow, plan: Plan) -> dict[str, Any] | None:
    if isinstance(row, BadRow):
        return None
    try:
        return plan.event(row.values)
    except InvalidUsage:
        return None


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
