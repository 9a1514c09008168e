"""Statements for people, to copy: what a page shows, as a query of the views. Values are written into the text."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["literal", "summary_sql"]


def literal(text: str) -> str:
    """A string of ClickHouse's SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def summary_sql(
    period: str,
    metric_key: str,
    start: datetime,
    end: datetime,
    *,
    org_id: str | None = None,
    subject: tuple[str, str] | None = None,
    by_subject: bool = False,
    top: int | None = None,
) -> str:
    """Totals of the UTC periods that begin in [start, end), from the view of the period.

    Without a subject, a view's rows add up only for a metric that counts or sums: the text says so. `top`: only
    this many subjects of each period and organization, those with the largest totals.
    """
    each = by_subject or subject is not None
    columns = [
        "period_start",
        *([] if org_id is not None else ["org_id"]),
        *(["subject_type, subject_id"] if each else []),
    ]
    names = ", ".join(columns)
    where = [
        f"metric_key = {literal(metric_key)}",
        f"period_start >= {_time(start)}",
        f"period_start < {_time(end)}",
        *([] if org_id is None else [f"org_id = {literal(org_id)}"]),
        *([] if subject is None else [f"subject_type = {literal(subject[0])}", f"subject_id = {literal(subject[1])}"]),
    ]
    total = "total_quantity, record_count" if each else "sum(total_quantity) AS total, sum(record_count) AS events"
    lines = [f"SELECT {names}, {total}", f"FROM usage_{period}", "WHERE " + "\n  AND ".join(where)]
    if not each:
        lines.append(f"GROUP BY {names}")
    if top is None:
        return "\n".join([*lines, f"ORDER BY {names}"])
    each_of = ", ".join(columns[:-1])
    lines += [f"ORDER BY {each_of}, total_quantity DESC", f"LIMIT {top} BY {each_of}"]
    return "\n".join(lines)


def _time(moment: datetime) -> str:
    return f"toDateTime64('{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}', 6, 'UTC')"
