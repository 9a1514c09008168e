"""What findings say, and how a report ends."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from meterfold_cli import exits
from meterfold_cli.commands.verify import exit_code
from meterfold_processor.verify.report import Finding, Findings, ThresholdReport, Unproven, VerifyReport, VerifyResult
from meterfold_processor.verify.windows import finding_of

FINDING = Finding(
    check="conservation", place="usage_records", partition=2, offset=17, what="row", expected="one", found="none"
)
EXPIRED = Unproven(check="windows", place="usage_windows", why="expired", passing=False)
BEHIND = Unproven(check="states", place="usage.windows", why="the checker is behind", passing=True)


def report(*, findings: tuple[Finding, ...] = (), unproven: tuple[Unproven, ...] = ()) -> VerifyReport:
    return VerifyReport(
        begun_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=1.0,
        partitions=(),
        orgs=(),
        thresholds=ThresholdReport(judged=True),
        findings=findings,
        unproven=unproven,
    )


@pytest.mark.parametrize(
    ("found", "verdict", "code", "accepted"),
    [
        (report(), VerifyResult.PROVEN, exits.OK, exits.OK),
        (report(findings=(FINDING,)), VerifyResult.DIFFERENT, exits.FAILED, exits.FAILED),
        (report(findings=(FINDING,), unproven=(BEHIND,)), VerifyResult.DIFFERENT, exits.FAILED, exits.FAILED),
        (report(unproven=(BEHIND, EXPIRED)), VerifyResult.UNPROVEN, exits.UNAVAILABLE, exits.UNAVAILABLE),
        (report(unproven=(EXPIRED,)), VerifyResult.UNPROVEN, exits.EXPIRED, exits.OK),
    ],
)
def test_only_what_is_proven_ends_with_zero(
    found: VerifyReport, verdict: VerifyResult, code: int, accepted: int
) -> None:
    assert (found.verdict, found.proven) == (verdict, verdict is VerifyResult.PROVEN)
    assert (exit_code(found), exit_code(found, accept_expired=True)) == (code, accepted)


def test_a_finding_is_a_sentence() -> None:
    assert str(FINDING) == "usage_records, partition 2, offset 17: row: expected one, found none"


def test_the_limit_counts_what_it_does_not_list() -> None:
    findings = Findings(2)
    findings.extend([FINDING] * 5)
    assert (len(findings.found), findings.more) == (2, 3)


def row(**changes: Any) -> dict[str, Any]:
    names = ("count", "sum", "min", "max", "last", "last_timestamp", "last_offset", "folded_through")
    values = (3, Decimal("1.500000000"), *[Decimal(1)] * 3, datetime(2026, 1, 1, 5, tzinfo=UTC), 8, 8)
    sides = {
        f"{side}_{name}": value for side in ("stored", "recounted") for name, value in zip(names, values, strict=True)
    }
    subject = {"org_id": "acme", "metric_key": "calls", "subject_type": "user", "subject_id": "u1", "partition": 4}
    window = {"period_type": "hourly", "period_start": datetime(2026, 1, 1, 5, tzinfo=UTC), "finding": "different"}
    return {**subject, **window, **sides, **changes}


def test_only_the_columns_of_a_window_that_differ_are_told() -> None:
    finding = finding_of(row(stored_sum=Decimal("2.500000000"), stored_count=4))
    assert (finding.expected, finding.found) == ("record_count 3, sum 1.5", "record_count 4, sum 2.5")
    assert str(finding).startswith(
        "usage_windows, partition 4, hourly window of acme/calls/user/u1 from 2026-01-01T05:00:00Z: "
    )


def test_a_window_that_is_missing_or_too_much() -> None:
    missing, invented = finding_of(row(finding="window missing")), finding_of(row(finding="records missing"))
    assert (missing.expected, missing.found) == ("record_count 3, sum 1.5, folded_through 8", "no window")
    assert (invented.expected, invented.found) == ("no window", "record_count 3, sum 1.5, folded_through 8")
