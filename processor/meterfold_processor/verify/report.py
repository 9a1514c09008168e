"""What a verification found: frozen values that print as sentences and as JSON.

Everything that was looked at ends in one of three ways: proven (nothing is said beside the counts), a Finding (it is
not what it has to be), or Unproven (nothing is known to be wrong, but it can't be recounted or judged any more or
yet). All offsets are those of `usage.recorded` unless the place says another topic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal

__all__ = [
    "Check",
    "Finding",
    "Findings",
    "OrgCounts",
    "PartitionReport",
    "Tell",
    "ThresholdReport",
    "Unproven",
    "VerifyReport",
    "VerifyResult",
    "WindowName",
]

Check = Literal[
    "progress",
    "conservation",
    "identities",
    "windows",
    "contents",
    "states",
    "events",
    "definitions",
    "actions",
    "aggregates",
    "closings",
]


class VerifyResult(StrEnum):
    """PROVEN: all of it. DIFFERENT: at least one finding. UNPROVEN: no finding, but something could not be proven."""

    PROVEN = "proven"
    DIFFERENT = "different"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class WindowName:
    """One window of one subject."""

    org_id: str
    metric_key: str
    subject_type: str
    subject_id: str
    period_type: str
    period_start: datetime

    def __str__(self) -> str:
        subject = "/".join((self.org_id, self.metric_key, self.subject_type, self.subject_id))
        if self.period_type == "lifetime":
            return f"{self.period_type} window of {subject}"
        return f"{self.period_type} window of {subject} from {_time(self.period_start)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference. `place` is the table or topic that is wrong; `name` a threshold, event or event id."""

    check: Check
    place: str
    what: str
    expected: str
    found: str
    partition: int | None = None
    offset: int | None = None
    last_offset: int | None = None
    window: WindowName | None = None
    name: str | None = None

    def __str__(self) -> str:
        where = [
            self.place,
            *([] if self.partition is None else [f"partition {self.partition}"]),
            *([] if self.offset is None else [_offsets(self.offset, self.last_offset)]),
            *([] if self.window is None else [str(self.window)]),
            *([] if self.name is None else [self.name]),
        ]
        return f"{', '.join(where)}: {self.what}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproven:
    """Something that can't be proven, and why. `passing`: verifying again later may prove it; else it has expired."""

    check: Check
    place: str
    why: str
    passing: bool
    partition: int | None = None
    offset: int | None = None
    last_offset: int | None = None

    def __str__(self) -> str:
        where = [
            self.place,
            *([] if self.partition is None else [f"partition {self.partition}"]),
            *([] if self.offset is None else [_offsets(self.offset, self.last_offset)]),
        ]
        return f"{', '.join(where)}: {self.why}"


Tell = Callable[[int, int, str], None]
"""Progress: steps done, steps in all, and what is being done."""


class Findings:
    """Collects what is found: `limit` findings of each check and partition, the others are counted in `more`. A table
    that was emptied must not fill the memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.found: list[Finding] = []
        self.unproven: list[Unproven] = []
        self.more = 0
        self._counts: Counter[tuple[str, int | None]] = Counter()

    def add(self, *findings: Finding) -> None:
        for finding in findings:
            name = finding.check, finding.partition
            self._counts[name] += 1
            if self._counts[name] <= self.limit:
                self.found.append(finding)
            else:
                self.more += 1

    def extend(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.add(finding)

    def cannot(self, *unproven: Unproven) -> None:
        self.unproven.extend(unproven)


@dataclass(frozen=True, slots=True)
class OrgCounts:
    """Stored positions of one organization; `org_id` None: rejected messages whose key names no subject. `in_log`:
    messages of the log that were compared with them, None where that was not asked for."""

    org_id: str | None
    counted: int
    duplicates: int
    rejected: int
    in_log: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionReport:
    """One partition, as of the offsets that were fixed first: [began_at, next_offset) was folded, and looked at.

    `log_start` and `log_end` bound the log at that time. `unfolded`: whether messages below log_end were not folded
    yet. `counted`, `duplicates` and `rejected` are distinct stored positions; `no_message` are offsets of the log
    that hold none (transaction markers, aborted records); `gone` are offsets without a row that the log does not hold
    any more. `windows` were compared with `records`; `expired_windows` could not be. `compared` rows were compared with
    their messages, None where that was not asked for; rows of offsets below log_start never are. `orgs` splits the
    counts.
    """

    partition: int
    log_start: int
    log_end: int
    began_at: int | None = None
    next_offset: int | None = None
    unfolded: bool = False
    counted: int = 0
    duplicates: int = 0
    rejected: int = 0
    no_message: int = 0
    gone: int = 0
    windows: int = 0
    records: int = 0
    expired_windows: int = 0
    compared: int | None = None
    orgs: tuple[OrgCounts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdReport:
    """`judged` is False where states and events were not compared; the report's `unproven` says why.

    windows: open stored windows that were judged again. states: values of threshold.state. events: messages on the
    three event topics. mirrored: rows of threshold_events. definitions: rows of metric_definitions and thresholds that
    were compared with their topics. actions: rows of alert_actions that were compared with alert.acted.
    """

    judged: bool
    thresholds: int = 0
    windows: int = 0
    states: int = 0
    events: int = 0
    mirrored: int = 0
    definitions: int = 0
    actions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The whole answer.

    aggregates: events of usage.aggregated that were looked at. closings: closings of periods. more: findings beyond the
    limit of each check, which are not listed. range_start, range_end: the event times that were asked about, None for
    all (timerange.py says what that proves).
    """

    begun_at: datetime
    seconds: float
    partitions: tuple[PartitionReport, ...]
    orgs: tuple[OrgCounts, ...]
    thresholds: ThresholdReport
    findings: tuple[Finding, ...] = ()
    unproven: tuple[Unproven, ...] = ()
    more: int = 0
    aggregates: int = 0
    closings: int = 0
    range_start: datetime | None = None
    range_end: datetime | None = None
    verdict: VerifyResult = field(init=False)

    def __post_init__(self) -> None:
        open_end = VerifyResult.UNPROVEN if self.unproven else VerifyResult.PROVEN
        object.__setattr__(self, "verdict", VerifyResult.DIFFERENT if self.findings else open_end)

    @property
    def proven(self) -> bool:
        return self.verdict is VerifyResult.PROVEN

    @property
    def unfolded(self) -> list[int]:
        """Partitions with messages that were in the log at the beginning and are not folded yet."""
        return [partition.partition for partition in self.partitions if partition.unfolded]


def _offsets(first: int, last: int | None) -> str:
    return f"offset {first}" if last is None or last == first else f"offsets {first} to {last}"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
