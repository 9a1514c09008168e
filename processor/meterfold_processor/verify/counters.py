"""Whether the counters of a progress row, the stored rows and the log fit together. Pure.

Of the offsets that no table holds, those still in the log were looked up there. The others can't be looked up any
more, but the counters still tell: if nothing is missing beside what was found, none of them was an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meterfold_processor.verify.log import Gap
from meterfold_processor.verify.report import Finding, Unproven
from meterfold_sink.fold_state import ProgressRow
from meterfold_sink.positions import KINDS, Positions

__all__ = ["Accounts", "balance", "merged", "split"]


@dataclass(frozen=True, slots=True)
class Accounts:
    """What is known of [progress.log_start, progress.next_offset).

    missing: messages of the log that no table holds, of which `expired` are older than the records' retention.
    gone: offsets without a row that the log does not hold any more. kept_from: the first stored offset that is too
    young to have expired, None where there is none.
    """

    progress: ProgressRow
    stored: Positions
    missing: int
    expired: int
    gone: Sequence[Gap]
    kept_from: int | None


def balance(accounts: Accounts) -> tuple[list[Finding], list[Unproven]]:
    """Compare counters and rows; `missing` messages are findings already, by offset."""
    progress, stored = accounts.progress, accounts.stored
    expected = {"records": progress.counted, "duplicates": progress.duplicates, "rejected": progress.rejected}
    lacking = {kind: count - getattr(stored, kind) for kind, count in expected.items()}
    unknown = sum(lacking.values()) - accounts.missing - accounts.expired
    old = [gap for gap in accounts.gone if accounts.kept_from is None or gap.first < accounts.kept_from]
    young = [gap for gap in accounts.gone if gap not in old]
    may_have_expired = 0 < unknown <= sum(map(len, old))
    unproven = _expired(progress.partition, accounts, old, unknown) if may_have_expired else []
    if accounts.expired:
        unproven.append(
            Unproven(
                check="conservation",
                place="usage_records",
                partition=progress.partition,
                passing=False,
                why=f"{accounts.expired} messages are still in the log, but older than the records' retention",
            )
        )
    findings = []
    for kind, table in KINDS.items():
        explained = may_have_expired or accounts.expired > 0
        if lacking[kind] < 0 or (lacking[kind] > 0 and not explained):
            findings.append(
                Finding(
                    check="conservation",
                    place=table,
                    partition=progress.partition,
                    what="rows below the next offset, against the counter of fold_progress",
                    expected=str(expected[kind]),
                    found=str(getattr(stored, kind)),
                )
            )
    if unknown > 0 and not may_have_expired:
        findings.extend(_lost(progress.partition, young or old, unknown))
    return findings, unproven


def _expired(partition: int, accounts: Accounts, old: list[Gap], unknown: int) -> list[Unproven]:
    return [
        Unproven(
            check="conservation",
            place="usage_records",
            partition=partition,
            passing=False,
            offset=old[0].first,
            last_offset=old[-1].last,
            why=(
                f"{unknown} events cannot be recounted: their rows have expired, and the log begins later, so "
                "what was an event there and what was not only the counters say"
            ),
        )
    ]


def _lost(partition: int, gaps: list[Gap], unknown: int) -> Iterable[Finding]:
    """The counters lack rows that are not in the log any more: somewhere in these gaps."""
    where = ", ".join(f"{gap.first}" if len(gap) == 1 else f"{gap.first} to {gap.last}" for gap in gaps[:20])
    yield Finding(
        check="conservation",
        place="usage_records, usage_duplicates, usage_rejected",
        partition=partition,
        offset=gaps[0].first if gaps else None,
        last_offset=gaps[-1].last if gaps else None,
        what="rows of messages that the log does not hold any more",
        expected=f"{unknown} more",
        found=f"no row at offsets {where}{' and more' if len(gaps) > 20 else ''}"
        if gaps
        else "no offset without a row",
    )


def merged(gaps: Iterable[Gap]) -> list[Gap]:
    """Gaps in order, those that touch made one (slices cut them)."""
    found: list[Gap] = []
    for gap in gaps:
        if found and gap.first <= found[-1].last + 1:
            found[-1] = Gap(found[-1].first, max(found[-1].last, gap.last))
        else:
            found.append(gap)
    return found


def split(gaps: Iterable[Gap], log_start: int) -> tuple[list[Gap], list[Gap]]:
    """(those below the log's start, those the log still holds); one that lies across it is cut."""
    gone, held = [], []
    for gap in gaps:
        if gap.first < log_start:
            gone.append(Gap(gap.first, min(gap.last, log_start - 1)))
        if gap.last >= log_start:
            held.append(Gap(max(gap.first, log_start), gap.last))
    return gone, held
