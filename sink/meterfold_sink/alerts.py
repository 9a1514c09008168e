"""Which alerts there are, page by page, and how far the actions of people on them are copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.periods import micros
from meterfold_sink.keyset import Key, Keys, Position, RowPage, micros_of, ordered, read_page

if TYPE_CHECKING:
    from datetime import datetime

    from meterfold_sink.client import Client

__all__ = ["ALERT_SORTS", "FILTERS", "find_alert", "list_alerts", "next_mirrored_offset"]

FILTERS: Final = ("metric_key", "org_id", "subject_type", "subject_id", "threshold_id", "status", "level")
"""The columns of usage_alerts that a list may be restricted by."""
_OF_EVENTS: Final = frozenset({"metric_key", "org_id", "subject_type", "subject_id", "threshold_id", "level"})
_ALERT: Final = "SELECT * FROM usage_alerts WHERE id = {id:String}"
ALERT_SORTS: Final[Mapping[str, Keys]] = {
    "triggered_at": (micros_of("triggered_at"), Key("id", breaks_ties=True)),
    "percentage_used": (Key("percentage_used", "Decimal(38, 9)"), Key("id", breaks_ties=True)),
}
"""What alerts can be sorted by."""
NEWEST: Final = ordered(ALERT_SORTS["triggered_at"], descending=True)
_MIRRORED: Final = """
SELECT max(next_offset) AS next_offset, toInt64(count()) AS found
FROM mirror_progress
WHERE topic = {topic:String} AND partition = 0
"""


def list_alerts(
    client: Client,
    wanted: Mapping[str, str | None],
    keys: Keys = NEWEST,
    *,
    since: datetime | None,
    limit: int,
    offset: int = 0,
    after: Position | None = None,
) -> RowPage[dict[str, Any]]:
    """Rows of usage_alerts that were triggered at `since` or later. `wanted`: column of FILTERS -> its value; None
    leaves the column out. Raises Retryable or Fatal, as every function here."""
    if unknown := wanted.keys() - set(FILTERS):
        raise ValueError(f"usage_alerts cannot be restricted by {', '.join(sorted(unknown))}")
    given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{name} = {{{name}:String}}" for name in given]
    if of_events := [f"{name} = {{{name}:String}}" for name in given if name in _OF_EVENTS]:
        # These are the same in every event of an alert: the view then looks at the events of few alerts.
        conditions.append(f"id IN (SELECT alert_id FROM threshold_events WHERE {' AND '.join(of_events)})")  # noqa: S608
    if since is not None:
        conditions.append("triggered_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')")
        given["since"] = micros(since)
    select = f"SELECT * FROM usage_alerts WHERE {' AND '.join(conditions) or '1'}"  # noqa: S608
    return read_page(client, select, keys, given, limit=limit, offset=offset, after=after, name="id")


def find_alert(client: Client, alert_id: str) -> dict[str, Any] | None:
    """The row of one alert."""
    rows = client.rows(_ALERT, {"id": alert_id})
    return rows[0] if rows else None


def next_mirrored_offset(client: Client, topic: str) -> int:
    """Everything below this offset of partition 0 of a topic (full name) is in its table; 0 before the first copy."""
    (row,) = client.rows(_MIRRORED, {"topic": topic})
    return int(row["next_offset"]) if row["found"] else 0
