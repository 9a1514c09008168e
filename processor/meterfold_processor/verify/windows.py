"""Stored windows against a recount of their records, and what can't be recounted any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from meterfold_processor.verify.report import Finding, Findings, PartitionReport, Unproven, WindowName
from meterfold_processor.verify.timerange import TimeRange
from meterfold_sink.client import Client
from meterfold_sink.proof import prove_partitions
from meterfold_sink.windows import unprovable_windows

__all__ = ["finding_of", "prove_windows"]

_COLUMNS: Final = {
    "record_count": "count",
    "sum": "sum",
    "min": "min",
    "max": "max",
    "last": "last",
    "last_timestamp": "last_timestamp",
    "last_offset": "last_offset",
    "folded_through": "folded_through",
}
_FAR: Final = 9_000_000_000_000_000  # the year 2255; DateTime64(6) ends in 2299


def prove_windows(
    client: Client,
    reports: Sequence[PartitionReport],
    findings: Findings,
    within: TimeRange | None,
    tell: Callable[[str], None],
) -> list[PartitionReport]:
    """The reports with what was compared: the windows that lie in the range as a whole. Raises Retryable or Fatal."""
    bounds = None if within is None else within.bounds
    partitions = [report.partition for report in reports]
    proofs = prove_partitions(client, partitions, limit=findings.limit + 1, within=bounds, tell=tell)
    expired = [proof.partition for proof in proofs if proof.unprovable]
    for proof in proofs:
        findings.extend(finding_of(row) for row in proof.differences)
    if expired:
        start, end = bounds or (0, _FAR)
        for row in unprovable_windows(client, expired, start, end):
            findings.cannot(_expired(row))
    return [
        replace(report, windows=proof.windows, records=proof.records, expired_windows=proof.unprovable)
        for report, proof in zip(reports, proofs, strict=True)
    ]


def finding_of(row: Mapping[str, Any]) -> Finding:
    """A row of usage_reconciliation: only the columns that differ are shown."""
    window = WindowName(
        row["org_id"],
        row["metric_key"],
        row["subject_type"],
        row["subject_id"],
        row["period_type"],
        row["period_start"],
    )
    recount = "the sum of its months" if window.period_type == "lifetime" else "a recount of its records"
    match row["finding"]:
        case "window missing":
            what, expected, found = f"window against {recount}", _shown(row, "recounted", None), "no window"
        case "records missing":
            what, expected, found = f"window against {recount}", "no window", _shown(row, "stored", None)
        case _:
            names = [n for n, short in _COLUMNS.items() if row[f"stored_{short}"] != row[f"recounted_{short}"]]
            what = f"window against {recount}"
            expected, found = _shown(row, "recounted", names), _shown(row, "stored", names)
    return Finding(
        check="windows",
        place="usage_windows",
        partition=row["partition"],
        window=window,
        what=what,
        expected=expected,
        found=found,
    )


def _shown(row: Mapping[str, Any], side: str, names: list[str] | None) -> str:
    """`names` None: what matters of a whole window."""
    shown = names if names is not None else ["record_count", "sum", "folded_through"]
    return ", ".join(f"{name} {_text(row[f'{side}_{_COLUMNS[name]}'])}" for name in shown)


def _text(value: Any) -> str:
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)


def _expired(row: Mapping[str, Any]) -> Unproven:
    earliest, latest = _text(row["earliest"]), _text(row["latest"])
    return Unproven(
        check="windows",
        place="usage_windows",
        partition=row["partition"],
        passing=False,
        why=(
            f"{row['windows']} {row['period_type']} windows that begin between {earliest} and {latest} hold "
            f"{row['records']} records that may have expired: they cannot be recounted any more"
        ),
    )
