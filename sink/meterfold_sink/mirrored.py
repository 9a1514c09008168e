"""What the checker's mirror has copied from topics: definitions, actions on alerts and threshold events, as rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from meterfold_sink.client import Client, to_rows

__all__ = ["mirrored_actions", "mirrored_definitions", "mirrored_events"]

_DEFINITIONS: Final = frozenset({"metric_definitions", "thresholds"})


def mirrored_definitions(client: Client, table: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The newest row of each definition, deleted ones too."""
    if table not in _DEFINITIONS:
        raise ValueError(f"{table} holds no definitions")
    for batch in client.batches(f"SELECT {', '.join(columns)} FROM {table} FINAL"):  # noqa: S608
        yield from to_rows(batch)


def mirrored_actions(client: Client) -> Iterator[dict[str, Any]]:
    """The valid row of each alert and action. `earlier` is minus the offset on alert.acted; `action` is 1 for
    acknowledge, 2 for resolve."""
    sql = "SELECT alert_id, toInt8(action) AS action, by, at, earlier FROM alert_actions FINAL"
    for batch in client.batches(sql):
        yield from to_rows(batch)


def mirrored_events(
    client: Client,
    columns: Sequence[str],
    *,
    within: tuple[int, int] | None = None,
    event_ids: Sequence[str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Rows of threshold_events: all of them, those of windows that lie in `within` [start, end) (UTC microseconds), or
    those of a few events."""
    condition, parameters = "", dict[str, Any]()
    if within is not None:
        condition = (
            " WHERE period_start >= fromUnixTimestamp64Micro({start:Int64}, 'UTC') "
            "AND period_end <= fromUnixTimestamp64Micro({end:Int64}, 'UTC')"
        )
        parameters = {"start": within[0], "end": within[1]}
    elif event_ids is not None:
        condition, parameters = " WHERE has({event_ids:Array(String)}, event_id)", {"event_ids": list(event_ids)}
    sql = f"SELECT {', '.join(columns)} FROM threshold_events FINAL{condition}"  # noqa: S608
    for batch in client.batches(sql, parameters):
        yield from to_rows(batch)
