"""Waiting until an installation has worked through everything that was in its topics at the call.

First the fold: every event of usage.recorded that was there is counted, a duplicate or rejected. Then the checker:
every window that this touched is judged. Last the checker's copies: definitions and threshold events are in
ClickHouse. The fold publishes windows before it stores its progress, and the checker its events before it commits its
offsets, so the ends of each step's topics are taken once the step before is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from meterfold_schemas.plurals import noun
from meterfold_schemas.topics import USAGE_RECORDED, USAGE_WINDOWS
from meterfold_service.status.kafka_view import LogBounds
from meterfold_service.status.report import PartitionStatus, StatusReport

__all__ = ["CaughtUp", "Looks", "wait_until_caught_up"]

_LOOK_SECONDS: Final = 0.2

#: (topic, partition) -> the end of its log.
Ends = dict[tuple[str, int], int]


class Looks(Protocol):
    """What looks at the installation: Inspector."""

    def look(self) -> StatusReport: ...


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """The last look, and what is still behind in words; nothing when all of it is done."""

    report: StatusReport
    behind: tuple[str, ...]


def wait_until_caught_up(inspector: Looks, seconds: float, tell: Callable[[str], None]) -> CaughtUp:
    """Look until fold and checker have done what was there at the call, at most about `seconds`.

    Where no checker runs, nobody judges windows or copies events, and only the fold is waited for.
    """
    waiting = _Waiting(inspector, time.monotonic() + seconds, tell)
    report, behind = waiting.until_done(lambda seen: _ends({USAGE_RECORDED: seen.kafka.recorded}), _unfolded)
    if not behind:
        report, behind = waiting.until_done(lambda seen: _ends({USAGE_WINDOWS: seen.kafka.windows}), _unjudged)
    if not behind:
        report, behind = waiting.until_done(lambda seen: _ends(seen.kafka.mirrored), _not_copied)
    return CaughtUp(report, behind)


@dataclass(frozen=True, slots=True)
class _Waiting:
    inspector: Looks
    deadline: float
    tell: Callable[[str], None]

    def until_done(
        self, ends_of: Callable[[StatusReport], Ends], behind_of: Callable[[StatusReport, Ends], tuple[str, ...]]
    ) -> tuple[StatusReport, tuple[str, ...]]:
        """The last look, and what is behind the ends that the first answer showed."""
        ends: Ends | None = None
        while True:
            report = self.inspector.look()
            if silent := _silent(report):
                behind: tuple[str, ...] = (silent,)
            else:
                ends = ends_of(report) if ends is None else ends
                behind = behind_of(report, ends)
            left = self.deadline - time.monotonic()
            if not behind or left <= 0:
                return report, behind
            self.tell(behind[0])
            time.sleep(min(_LOOK_SECONDS, left))


def _ends(logs: Mapping[str, Mapping[int, LogBounds]]) -> Ends:
    return {(topic, number): log.end for topic, partitions in logs.items() for number, log in partitions.items()}


def _unfolded(report: StatusReport, ends: Ends) -> tuple[str, ...]:
    if not report.partitions:
        return ("usage.recorded does not exist",)
    left = [
        status for status in report.partitions if not _folded(status, ends.get((USAGE_RECORDED, status.partition), 0))
    ]
    return (f"not folded yet: {_named(left)}",) if left else ()


def _folded(status: PartitionStatus, end: int) -> bool:
    """The end of a log may be a marker of a transaction, which no progress passes: then nothing waits."""
    if status.next_offset is not None and status.next_offset >= end:
        return True
    return status.state == "ok" and status.waiting_seconds is None


def _unjudged(report: StatusReport, ends: Ends) -> tuple[str, ...]:
    if _no_checker(report):
        return ()
    left = [
        status
        for status in report.partitions
        if status.checker_lag
        and report.kafka.checked.get(status.partition, 0) < ends.get((USAGE_WINDOWS, status.partition), 0)
    ]
    return (f"not judged by the checker yet: {_named(left)}",) if left else ()


def _not_copied(report: StatusReport, ends: Ends) -> tuple[str, ...]:
    if _no_checker(report):
        return ()
    left = sorted({lag.topic for lag in report.mirror_lag if lag.next_offset < ends.get((lag.topic, lag.partition), 0)})
    return (f"not copied into ClickHouse yet: {', '.join(left)}",) if left else ()


def _no_checker(report: StatusReport) -> bool:
    group = report.kafka.checker_group
    return group is None or group.is_empty


def _silent(report: StatusReport) -> str | None:
    if report.kafka.error is not None:
        return "Kafka does not answer"
    return "ClickHouse does not answer" if report.clickhouse.error is not None else None


def _named(partitions: list[PartitionStatus]) -> str:
    return f"{noun(len(partitions), 'partition')} {', '.join(str(status.partition) for status in partitions)}"
