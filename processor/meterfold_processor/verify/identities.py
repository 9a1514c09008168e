"""Each identity counted once within the look-back, and each duplicate of something that was counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from meterfold_processor.verify.findings import Findings
from meterfold_processor.verify.report import Finding, Unproven
from meterfold_processor.verify.timerange import Part
from meterfold_schemas.periods import MICROS_PER_SECOND
from meterfold_sink import conservation
from meterfold_sink.client import Client
from meterfold_sink.rules import FoldRules

__all__ = ["prove_identities"]

#: Bounds the memory of the join: so many offsets hold at most as many duplicates.
_SLICE: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class _Identities:
    client: Client
    rules: FoldRules
    now: int
    findings: Findings

    def counted_once(self, partition: int, part: Part) -> None:
        limit = self.findings.limit + 1
        twice = conservation.repeated_identities(
            self.client, partition, self.rules.lookback_seconds, first=part.first, until=part.until, limit=limit
        )
        for row in twice.to_pylist():
            expected = f"a duplicate of offset {row['earlier_offset']}"
            self._add(partition, row, "usage_records", "event counted twice", expected, "a second record")

    def duplicates_of_counted(self, partition: int, part: Part) -> None:
        # Nothing that was counted before this can still be there.
        kept_from = self.now - (self.rules.record_retention_seconds - self.rules.slack_seconds) * MICROS_PER_SECOND
        limit, expired = self.findings.limit + 1, 0
        for first in range(part.first, part.until, _SLICE):
            rows, more = conservation.unfounded_duplicates(
                self.client,
                partition,
                self.rules.lookback_seconds,
                first=first,
                until=min(first + _SLICE, part.until),
                kept_from=kept_from,
                limit=limit,
            )
            expired += more
            for row in rows.to_pylist():
                at = row["counted_offset"]
                self._add(
                    partition,
                    row,
                    "usage_duplicates",
                    "counted_offset of a duplicate",
                    "the offset of an earlier record of the same identity within the look-back",
                    f"{at}, which is another record" if row["is_stored"] else f"{at}, where no record stands",
                )
        if expired:
            why = f"what {expired} duplicates repeat has expired: that it was counted cannot be seen any more"
            self.findings.cannot(
                Unproven(check="identities", place="usage_duplicates", partition=partition, passing=False, why=why)
            )

    def _add(self, partition: int, row: Mapping[str, Any], place: str, what: str, expected: str, found: str) -> None:
        subject = "/".join(row[name] for name in ("org_id", "metric_key", "subject_type", "subject_id"))
        self.findings.add(
            Finding(
                check="identities",
                place=place,
                partition=partition,
                offset=row["offset"],
                name=f"id {row['id']!r} of {subject}",
                what=what,
                expected=expected,
                found=found,
            )
        )


def prove_identities(
    client: Client, rules: FoldRules, now: int, partition: int, part: Part, findings: Findings
) -> None:
    """`now` in UTC microseconds. Raises Retryable or Fatal."""
    identities = _Identities(client, rules, now, findings)
    identities.counted_once(partition, part)
    identities.duplicates_of_counted(partition, part)
