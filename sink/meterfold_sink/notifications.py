"""Which notifications are due, what became of them, and how to send them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from meterfold_schemas.periods import micros
from meterfold_sink.keyset import Key, Keys, Position, RowPage, micros_of, ordered, read_page

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = [
    "DELIVERY_SORTS",
    "FILTERS",
    "KEPT",
    "Backlog",
    "DeliveryKey",
    "DueDelivery",
    "Failures",
    "OpenDelivery",
    "alert_targets",
    "count_notified_thresholds",
    "count_waiting",
    "delivery_backlog",
    "delivery_requests",
    "delivery_states",
    "endpoint_failures",
    "known_deliveries",
    "list_deliveries",
    "list_endpoints",
    "list_tries",
    "open_deliveries",
    "planned_offsets",
    "request_again",
    "requested_deliveries",
]

FILTERS: Final = ("state", "channel", "target", "event_id", "event_type", "org_id", "threshold_id", "alert_id")
"""The columns of notification_deliveries that a list may be restricted by."""

KEPT: Final = timedelta(days=30)
"""A delivery is over at its last try, which an outage can delay; later than this it is not looked for any more."""

_PROGRESS: Final = "SELECT topic, partition, next_offset FROM notification_progress FINAL"
_KNOWN: Final = """
SELECT DISTINCT occurred_at, event_id, channel, target FROM notification_tries
WHERE has({event_ids:Array(String)}, event_id)
"""
_ALERT_TARGETS: Final = """
SELECT DISTINCT alert_id, channel, target FROM notification_tries WHERE has({alert_ids:Array(String)}, alert_id)
"""
_OF: Final = """
    occurred_at, event_id, channel, target,
    any(t.event_type) AS event_type, any(t.topic) AS topic, any(t.partition) AS partition, any(t.org_id) AS org_id,
    any(t.threshold_id) AS threshold_id, any(t.alert_id) AS alert_id,
    argMax((t.round, t.attempt, t.state, t.due_at, t.give_up_at), (t.round, t.attempt, t.stage)) AS last,
    tupleElement(last, 1) AS round, tupleElement(last, 2) AS attempt, tupleElement(last, 3) AS state,
    tupleElement(last, 4) AS due_at, tupleElement(last, 5) AS give_up_at
"""
_GROUPED: Final = """
GROUP BY occurred_at, event_id, channel, target
HAVING state IN ('pending', 'sending', 'retrying')
"""
_EVERY: Final = f"""
SELECT {_OF} FROM notification_tries AS t
WHERE t.give_up_at >= fromUnixTimestamp64Micro({{kept:Int64}}, 'UTC')
{_GROUPED}
"""  # noqa: S608
_IS_OWNED: Final = "has({owned:Array(String)}, concat(t.topic, ':', toString(t.partition)))"
_CURRENT: Final = _EVERY.replace("GROUP BY", f"AND {_IS_OWNED}\nGROUP BY")
_OPEN: Final = f"""
SELECT occurred_at, event_id, channel, target, topic, partition, due_at FROM ({_CURRENT})
ORDER BY due_at
LIMIT {{per_target:UInt32}} BY channel, target
"""  # noqa: S608
#: The times of the events are the sort key: only the granules of these deliveries are read.
_STATES: Final = f"""
SELECT * EXCEPT last FROM
(
    SELECT {_OF}, argMaxIf(t.payload, t.round, t.attempt = 0) AS payload
    FROM notification_tries AS t
    WHERE t.occurred_at IN (SELECT fromUnixTimestamp64Micro(arrayJoin({{times:Array(Int64)}}), 'UTC'))
        AND has({{keys:Array(String)}}, concat(t.event_id, ' ', t.channel, ' ', t.target))
    {_GROUPED}
)
"""  # noqa: S608
_REQUESTS: Final = """
SELECT round, toInt64(count()) AS deliveries FROM notification_tries
WHERE round >= toUnixTimestamp64Micro(now64(6)) - {microseconds:Int64} AND attempt = 0
GROUP BY round
"""
_REQUESTED: Final = f"""
SELECT occurred_at, event_id, channel, target, topic, partition, due_at FROM notification_tries AS t
WHERE t.attempt = 0 AND t.round >= {{from_round:Int64}} AND has({{rounds:Array(Int64)}}, t.round) AND {_IS_OWNED}
ORDER BY due_at
LIMIT {{per_target:UInt32}} BY channel, target
"""  # noqa: S608
_WAITING: Final = f"""
SELECT channel, toInt64(count()) AS waiting, min(occurred_at) AS oldest FROM ({_CURRENT}) GROUP BY channel
"""  # noqa: S608
_BACKLOG: Final = f"""
SELECT
    toInt64(count()) AS waiting, toInt64(countIf(state = 'retrying')) AS failing,
    minOrNullIf(due_at, due_at <= fromUnixTimestamp64Micro({{now:Int64}}, 'UTC')) AS due_since
FROM ({_EVERY})
"""  # noqa: S608
_NOTIFIED: Final = """
SELECT toInt64(count()) AS thresholds FROM thresholds FINAL
WHERE deleted = 0 AND is_active AND (notEmpty(notify_emails) OR ifNull(notify_webhook, '') != '')
"""
_FAILURES: Final = """
WITH (
    SELECT max(ended_at) FROM notification_tries
    WHERE channel = 'webhook' AND target = {target:String} AND state = 'delivered'
) AS delivered_at
SELECT
    toInt64(count()) AS tries, toInt64(countIf(state != 'sending')) AS failures,
    min(assumeNotNull(started_at)) AS since
FROM notification_tries FINAL
WHERE channel = 'webhook' AND target = {target:String} AND state IN ('sending', 'retrying', 'failed')
    AND isNotNull(started_at) AND ifNull(started_at > delivered_at, 1)
"""
_ENDPOINTS: Final = """
SELECT endpoint, state, since, reason, changed_at FROM notification_endpoints FINAL ORDER BY endpoint
"""
DELIVERY_SORTS: Final[Mapping[str, Keys]] = {
    "occurred_at": (
        micros_of("occurred_at"),
        *(Key(name, breaks_ties=True) for name in ("event_id", "toString(channel)", "target")),
    )
}
"""What deliveries can be sorted by."""
NEWEST: Final = ordered(DELIVERY_SORTS["occurred_at"], descending=True)
#: An organization sees what its own thresholds have sent: those of every organization send to other addresses.
_SEEN: Final = (
    "{of}org_id = {seen_by:String} AND {of}threshold_id IN (SELECT id FROM thresholds WHERE org_id = {seen_by:String})"
)
_ABOUT: Final = """
SELECT alert_id, any(e.metric_key) AS metric_key, any(e.subject_type) AS subject_type, any(e.subject_id) AS subject_id
FROM threshold_events AS e
WHERE alert_id IN {alert_ids:Array(String)}
GROUP BY alert_id
"""
_UNKNOWN: Final = {"metric_key": None, "subject_type": None, "subject_id": None}
_ABOUT_AT_ONCE: Final = 500
"""Alerts of one statement, whose ids travel in a URL."""
_TRIES: Final = """
SELECT
    occurred_at, event_id, event_type, channel, target, round, toInt64(attempt) AS attempt, state, status, error,
    due_at, started_at, ended_at
FROM notification_tries FINAL
WHERE event_id = {event_id:String} AND :seen
ORDER BY channel, target, round, attempt
"""
_AGAIN: Final = """
INSERT INTO notification_tries
(occurred_at, event_id, channel, target, round, attempt, stage, state, due_at, give_up_at, event_type, topic, partition,
 org_id, threshold_id, alert_id, payload)
SELECT
    d.occurred_at, d.event_id, d.channel, d.target, {round:Int64}, 0, 0, 'pending',
    fromUnixTimestamp64Micro({round:Int64}, 'UTC'), fromUnixTimestamp64Micro({give_up_at:Int64}, 'UTC'),
    any(t.event_type), any(t.topic), any(t.partition), any(t.org_id), any(t.threshold_id), any(t.alert_id),
    argMaxIf(t.payload, t.round, t.attempt = 0)
FROM notification_deliveries AS d
INNER JOIN notification_tries AS t
    ON t.occurred_at = d.occurred_at AND t.event_id = d.event_id AND t.channel = d.channel AND t.target = d.target
WHERE {conditions}
GROUP BY d.occurred_at, d.event_id, d.channel, d.target
"""


class DeliveryKey(NamedTuple):
    """An event to one target; `channel` is email, webhook or chat."""

    event_id: str
    channel: str
    target: str


class OpenDelivery(NamedTuple):
    """A delivery with a try to come, of an event of this (topic, partition)."""

    key: DeliveryKey
    occurred_at: datetime
    topic: str
    partition: int
    due_at: datetime


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A delivery with a try to come: `attempt` is the number of its last one, 0 before the first."""

    occurred_at: datetime
    event_id: str
    channel: str
    target: str
    event_type: str
    topic: str
    partition: int
    org_id: str
    threshold_id: str
    alert_id: str
    round: int
    attempt: int
    state: str
    due_at: datetime
    give_up_at: datetime
    payload: str

    @property
    def key(self) -> DeliveryKey:
        return DeliveryKey(self.event_id, self.channel, self.target)


class Backlog(NamedTuple):
    """Deliveries with a try to come; those of them whose last try failed; and since when the longest overdue one is
    due, None where none is."""

    waiting: int
    failing: int
    due_since: datetime | None


class Failures(NamedTuple):
    """The tries of a webhook since its last success: how many have failed, and when the first one began, which may have
    been interrupted; None where there are none. So the same failure has the same `since` after a crash."""

    failed: int
    since: datetime | None


def planned_offsets(client: Client) -> dict[tuple[str, int], int]:
    """(topic, partition) -> the next offset to plan. Raises Retryable or Fatal, as every function here."""
    return {(row["topic"], row["partition"]): row["next_offset"] for row in client.rows(_PROGRESS)}


def known_deliveries(client: Client, event_ids: Sequence[str]) -> dict[DeliveryKey, datetime]:
    """The deliveries of these events that are planned already, and the times of their events."""
    rows = client.rows(_KNOWN, {"event_ids": list(event_ids)})
    return {DeliveryKey(row["event_id"], row["channel"], row["target"]): row["occurred_at"] for row in rows}


def alert_targets(client: Client, alert_ids: Sequence[str]) -> dict[str, set[tuple[str, str]]]:
    """alert -> (channel, target) of everything that was planned about it."""
    found: dict[str, set[tuple[str, str]]] = {}
    for row in client.rows(_ALERT_TARGETS, {"alert_ids": list(alert_ids)}):
        found.setdefault(row["alert_id"], set()).add((row["channel"], row["target"]))
    return found


def open_deliveries(
    client: Client, owned: Iterable[tuple[str, int]], kept: datetime, *, per_target: int
) -> list[OpenDelivery]:
    """Deliveries of the `owned` (topic, partition) with a try to come, the soonest due ones first, at most `per_target`
    of each target. Those that were to be given up before `kept` are over. Reads every try of the time since then."""
    parameters = _owned(owned) | {"kept": micros(kept), "per_target": per_target}
    return [_open(row) for row in client.rows(_OPEN, parameters)]


def delivery_states(client: Client, deliveries: Sequence[OpenDelivery]) -> list[DueDelivery]:
    """These deliveries as they are now, without those that have no try to come. Reads only their rows."""
    times, keys = sorted({micros(one.occurred_at) for one in deliveries}), [" ".join(one.key) for one in deliveries]
    return [DueDelivery(**row) for row in client.rows(_STATES, {"times": times, "keys": keys})]


def delivery_requests(client: Client, within: timedelta) -> dict[int, int]:
    """round -> deliveries of it: what users have asked to send `within` this time by the clock of ClickHouse."""
    rows = client.rows(_REQUESTS, {"microseconds": within // timedelta(microseconds=1)})
    return {row["round"]: row["deliveries"] for row in rows}


def requested_deliveries(
    client: Client, owned: Iterable[tuple[str, int]], rounds: Sequence[int], *, per_target: int
) -> list[OpenDelivery]:
    """The deliveries of these rounds, as `open_deliveries`; some may be over."""
    parameters = _owned(owned) | {"from_round": min(rounds), "rounds": list(rounds), "per_target": per_target}
    return [_open(row) for row in client.rows(_REQUESTED, parameters)]


def count_waiting(client: Client, owned: Iterable[tuple[str, int]], kept: datetime) -> dict[str, tuple[int, datetime]]:
    """channel -> deliveries with a try to come, and the time of the oldest event among them."""
    rows = client.rows(_WAITING, _owned(owned) | {"kept": micros(kept)})
    return {row["channel"]: (row["waiting"], row["oldest"]) for row in rows}


def delivery_backlog(client: Client, now: datetime, kept: datetime) -> Backlog:
    """Of all notifiers. Deliveries that were to be given up before `kept` are over."""
    (row,) = client.rows(_BACKLOG, {"now": micros(now), "kept": micros(kept)})
    return Backlog(row["waiting"], row["failing"], row["due_since"])


def count_notified_thresholds(client: Client) -> int:
    """Active thresholds with a mail address or a webhook."""
    return int(client.value(_NOTIFIED))


def endpoint_failures(client: Client, target: str) -> Failures:
    """The failed tries of a webhook since it last answered with success."""
    (row,) = client.rows(_FAILURES, {"target": target})
    return Failures(row["failures"], row["since"] if row["tries"] else None)


def list_endpoints(client: Client) -> list[dict[str, Any]]:
    """Webhook endpoints that have failed or been disabled, with their state now."""
    return client.rows(_ENDPOINTS)


def list_deliveries(
    client: Client,
    wanted: Mapping[str, str | None],
    keys: Keys = NEWEST,
    *,
    start: datetime | None,
    end: datetime | None,
    limit: int,
    after: Position | None = None,
    seen_by: str | None = None,
) -> RowPage[dict[str, Any]]:
    """Rows of notification_deliveries of events in [start, end), with metric and subject of the alert (None where none
    is known). `wanted`: column of FILTERS -> its value, None leaves it out. `seen_by`: see _conditions."""
    conditions, given = _conditions(wanted, start, end, seen_by=seen_by)
    select = f"SELECT * EXCEPT payload FROM notification_deliveries WHERE {' AND '.join(conditions) or '1'}"  # noqa: S608
    page = read_page(client, select, keys, given, limit=limit, after=after, name="event_id")
    about = _about(client, sorted({row["alert_id"] for row in page.rows} - {""}))
    return replace(page, rows=[row | about.get(row["alert_id"], _UNKNOWN) for row in page.rows])


def _about(client: Client, alert_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """alert -> its metric and subject."""
    found: dict[str, dict[str, Any]] = {}
    for first in range(0, len(alert_ids), _ABOUT_AT_ONCE):
        for row in client.rows(_ABOUT, {"alert_ids": list(alert_ids[first : first + _ABOUT_AT_ONCE])}):
            found[row.pop("alert_id")] = row
    return found


def list_tries(client: Client, event_id: str, *, seen_by: str | None = None) -> list[dict[str, Any]]:
    """Every try of every delivery of one event, by target and in order; attempt 0 is the plan. `seen_by`: see
    _conditions."""
    seen = "1" if seen_by is None else _SEEN.replace("{of}", "")
    return client.rows(_TRIES.replace(":seen", seen), {"event_id": event_id, "seen_by": seen_by})


def request_again(
    client: Client,
    wanted: Mapping[str, str | None],
    states: Sequence[str],
    start: datetime | None,
    end: datetime | None,
    number: int,
    retry: timedelta,
    *,
    seen_by: str | None = None,
) -> int:
    """Plan one more round of the deliveries in one of `states`, which are tried for the time `retry`; the running
    notifier sends them. `number` of the round: server_now; a repeated insert is the same rows. Returns how many
    deliveries there are."""
    conditions, given = _conditions(wanted, start, end, "d.", seen_by=seen_by)
    conditions.append("has({states:Array(String)}, d.state)")
    given |= {"round": number, "give_up_at": number + retry // timedelta(microseconds=1), "states": list(states)}
    client.command(_AGAIN.replace("{conditions}", " AND ".join(conditions)), given)
    return int(client.value(_COUNT_ROUND, {"round": number}))


_COUNT_ROUND: Final = "SELECT toInt64(count()) FROM notification_deliveries WHERE round = {round:Int64}"


def _conditions(
    wanted: Mapping[str, str | None],
    start: datetime | None,
    end: datetime | None,
    of: str = "",
    *,
    seen_by: str | None = None,
) -> tuple[list[str], dict[str, Any]]:
    """`seen_by`: only deliveries of this organization's own thresholds."""
    if unknown := wanted.keys() - set(FILTERS):
        raise ValueError(f"notification_deliveries cannot be restricted by {', '.join(sorted(unknown))}")
    given: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{of}{name} = {{{name}:String}}" for name in given]
    for name, sign, value in (("start", ">=", start), ("end", "<", end)):
        if value is not None:
            conditions.append(f"{of}occurred_at {sign} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')")
            given[name] = micros(value)
    if seen_by is not None:
        conditions.append(_SEEN.replace("{of}", of))
        given["seen_by"] = seen_by
    return conditions, given


def _open(row: Mapping[str, Any]) -> OpenDelivery:
    key = DeliveryKey(row["event_id"], row["channel"], row["target"])
    return OpenDelivery(key, row["occurred_at"], row["topic"], row["partition"], row["due_at"])


def _owned(owned: Iterable[tuple[str, int]]) -> dict[str, Any]:
    return {"owned": [f"{topic}:{partition}" for topic, partition in sorted(owned)]}
