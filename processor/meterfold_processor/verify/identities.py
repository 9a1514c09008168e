"""Each identity counted once within the look-back, and each duplicate of something that was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from meterfold_processor.verify.report import Finding, Findings, Unproven
from meterfold_schemas.periods import MICROS_PER_SECOND
from meterfold_sink import conservation
from meterfold_sink.client import Client
from meterfold_sink.positions import Span, slices
from meterfold_sink.rules import FoldRules

__all__ = ["prove_identities"]

#: Bounds the memory of the join: this many offsets hold at most as many duplicates.
_SLICE: Final = 2_000_000


def prove_identities(client: Client, rules: FoldRules, now: int, spans: Sequence[Span], findings: Findings) -> None:
    """`spans`: at most one of each partition; `now` in UTC microseconds. Raises Retryable or Fatal."""
    _counted_once(client, rules, spans, findings)
    _duplicates_of_counted(client, rules, now, spans, findings)


def _counted_once(client: Client, rules: FoldRules, spans: Sequence[Span], findings: Findings) -> None:
    limit = findings.limit + 1
    for row in conservation.repeated_identities(client, spans, rules.lookback_seconds, limit=limit):
        expected = f"a duplicate of offset {row['earlier_offset']}"
        findings.add(_finding(row, "usage_records", "event counted twice", expected, "a second record"))


def _duplicates_of_counted(
    client: Client, rules: FoldRules, now: int, spans: Sequence[Span], findings: Findings
) -> None:
    # Nothing that was counted before this can still be there.
    kept_from = now - (rules.record_retention_seconds - rules.slack_seconds) * MICROS_PER_SECOND
    expired: Counter[int] = Counter()
    for together in slices(spans, _SLICE):
        rows, more = conservation.unfounded_duplicates(
            client, together, rules.lookback_seconds, kept_from=kept_from, limit=findings.limit + 1
        )
        expired.update(more)
        for row in rows:
            at = row["counted_offset"]
            expected = "the offset of an earlier record of the same identity within the look-back"
            found = f"{at}, which is another record" if row["is_stored"] else f"{at}, where there is no record"
            findings.add(_finding(row, "usage_duplicates", "counted_offset of a duplicate", expected, found))
    for partition, count in sorted(expired.items()):
        if count:
            why = f"what {count} duplicates repeat has expired: that it was counted cannot be seen any more"
            findings.cannot(
                Unproven(check="identities", place="usage_duplicates", partition=partition, passing=False, why=why)
            )


def _finding(row: Mapping[str, Any], place: str, what: str, expected: str, found: str) -> Finding:
    subject = "/".join(row[name] for name in ("org_id", "metric_key", "subject_type", "subject_id"))
    return Finding(
        check="identities",
        place=place,
        partition=row["partition"],
        offset=row["offset"],
        name=f"id {row['id']!r} of {subject}",
        what=what,
        expected=expected,
        found=found,
    )
