"""What a page shows, as text that asks for the same elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from meterfold_schemas.definitions import SUBJECT
from meterfold_sink.example_sql import summary_sql

__all__ = ["ADDING", "Asked", "Snippet", "snippets"]

_VIEWS: Final = frozenset({"hourly", "daily", "weekly", "monthly", "yearly"})
_TOP: Final = 20
_ROWS: Final = 1_000
ADDING: Final = frozenset({"sum", "count"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a usage page was asked for. `group`: metadata fields or "subject"; `where`: the values that a metadata field
    may have, None for usage without it; `compare`: also the time before."""

    metric: str
    period: str
    start: datetime
    end: datetime
    tz: str | None = None
    anchor: int | None = None
    org_id: str | None = None
    subject: tuple[str, str] | None = None
    group: tuple[str, ...] = ()
    where: Mapping[str, Sequence[str | None]] = field(default_factory=dict, hash=False)
    compare: bool = False

    @property
    def top(self) -> int | None:
        """How many groups of each period and organization are shown, the largest ones; None: all."""
        return _TOP if self.group and self.subject is None else None

    @property
    def with_time(self) -> bool:
        """Whether days are too coarse for its start and end."""
        return self.period == "hourly"


@dataclass(frozen=True, slots=True)
class Snippet:
    """`text` empty: it cannot be said there, and `note` says why."""

    name: str
    text: str
    note: str = ""


def snippets(asked: Asked, base: str, aggregation: str) -> Sequence[Snippet]:
    """SQL for ClickHouse, curl for the API at `base`, and Python."""
    return (_sql(asked, aggregation), Snippet("curl", _curl(asked, base)), Snippet("Python", _python(asked)))


def _sql(asked: Asked, aggregation: str) -> Snippet:
    fields = [name for name in asked.group if name != SUBJECT]
    by_subject = SUBJECT in asked.group
    if asked.period not in _VIEWS or fields or asked.where or (asked.tz or "UTC") != "UTC":
        return Snippet("SQL", "", "The views are by subject, in UTC, from hours to years; use the API for the rest.")
    if not by_subject and asked.subject is None and aggregation not in ADDING:
        return Snippet(
            "SQL", "", f"Group by subject: a metric of the type {aggregation} does not add up over subjects."
        )
    text = summary_sql(
        asked.period,
        asked.metric,
        asked.start,
        asked.end,
        org_id=asked.org_id,
        subject=asked.subject,
        by_subject=by_subject,
        top=asked.top,
    )
    return Snippet("SQL", text)


def _curl(asked: Asked, base: str) -> str:
    pairs: list[tuple[str, str]] = [
        ("period", asked.period),
        ("start", _iso(asked.start)),
        ("end", _iso(asked.end)),
        *([("tz", asked.tz)] if asked.tz else []),
        *([("anchor", str(asked.anchor))] if asked.anchor else []),
        ("every_org", "true") if asked.org_id is None else ("org_id", asked.org_id),
        *([("subject_type", asked.subject[0]), ("subject_id", asked.subject[1])] if asked.subject else []),
        *(("group_by", name) for name in asked.group),
        *([("top", str(asked.top))] if asked.top else []),
        *(("where", f"{name}={one}") for name, some in asked.where.items() for one in some if one is not None),
        *(("missing", name) for name, some in asked.where.items() if None in some),
        ("limit", str(_ROWS)),
    ]
    address = f"{base}v1/usage/{quote(asked.metric, safe='')}/summary?{urlencode(pairs)}"
    return f'curl -s -H "Authorization: Bearer $TOKEN" \\\n  {shlex.quote(address)}'


def _python(asked: Asked) -> str:
    values = {
        "period": repr(asked.period),
        "start": f"datetime.fromisoformat({_iso(asked.start)!r})",
        "end": f"datetime.fromisoformat({_iso(asked.end)!r})",
        **({"tz": repr(asked.tz)} if asked.tz else {}),
        **({"anchor": repr(asked.anchor)} if asked.anchor else {}),
        "org_id": repr(asked.org_id),
        **({"subject": repr(asked.subject)} if asked.subject else {}),
        **({"group_by": repr(list(asked.group))} if asked.group else {}),
        **({"top": repr(asked.top)} if asked.top else {}),
        **({"filter": repr({name: list(some) for name, some in asked.where.items()})} if asked.where else {}),
        "limit": repr(_ROWS),
    }
    arguments = "".join(f"        {name}={value},\n" for name, value in values.items())
    whose = [
        *(["row.org_id"] if asked.org_id is None else []),
        *(["row.subject_type", "row.subject_id"] if SUBJECT in asked.group else []),
        *(["row.group"] if set(asked.group) - {SUBJECT} else []),
    ]
    shown = ", ".join(["row.period_start", *whose, "row.total_quantity", "row.record_count"])
    return (
        "from datetime import datetime\nfrom meterfold_service import Metering\n\n"
        f"with Metering() as metering:\n    page = metering.usage.get_summary(\n"
        f"        {asked.metric!r},\n{arguments}    )\n"
        f"    for row in page.rows:\n        print({shown})"
    )


def _iso(moment: datetime) -> str:
    return moment.isoformat()
