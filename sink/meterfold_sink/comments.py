"""Comments of all tables, views and columns, which SQL clients show.

`meterfold migrate` writes these comments to ClickHouse and updates those that differ. They are not part of the
migrations, because a view that is created again loses its comments, and a wording can change at any time.
docs/tables.md shows the same texts; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meterfold_schemas import usage_fields

__all__ = ["COMMENTS", "Described"]


@dataclass(frozen=True, slots=True)
class Described:
    """One table or view: what a row of it is, and what its columns mean."""

    comment: str
    columns: Mapping[str, str]


_SUBJECT: Final = {
    "org_id": "organization; empty: none",
    "metric_key": "key of the metric",
    "subject_type": "kind of subject: user, project, ...",
    "subject_id": "subject within its organization and type",
}
_POSITION: Final = {
    "partition": "partition of usage.recorded",
    "offset": "offset in its partition of usage.recorded",
}
_CLOSED_PERIOD: Final = {
    "period_type": "hourly, daily or monthly",
    "period_start": "start of the period, inclusive, in UTC",
}
_CLOSED_STATE: Final = {
    "partition": "partition of usage.recorded that the window is folded from",
    "record_count": "counted events",
    "sum": "sum of the quantities",
    "min": "smallest quantity",
    "max": "largest quantity",
    "last": "quantity with the latest timestamp; among equal timestamps, with the highest offset",
    "last_timestamp": "timestamp of that quantity",
    "last_offset": "offset of that quantity",
    "folded_through": "highest offset in this state",
}
_ARRIVAL: Final = {"received_at": "arrival time, as stamped by the broker"}

_DELIVERY: Final = {
    "occurred_at": "when the event happened",
    "event_id": "id of the event; receivers recognise repeats by it",
    "channel": "email, webhook or chat",
    "target": "mail address, URL of the webhook, or name of the chat target",
    "event_type": "topic of the event without prefix; notify.test: a test",
    "org_id": "organization; empty: none",
    "threshold_id": "threshold of the event; empty: none",
    "alert_id": "alert of the event; empty: none",
    "state": "pending, sending, retrying, delivered, failed, expired or disabled",
    "due_at": "when the next try is due",
    "status": "HTTP status or SMTP code of the answer; 0: no answer",
    "error": "why the try failed; empty: it did not",
    "payload": "the event as JSON, as it was when it was planned",
}

_RECORD: Final = {
    **_SUBJECT,
    "id": "id of the event, unique for its organization, metric and subject",
    "quantity": "quantity of the event; negative: a credit",
    "timestamp": "when the usage happened",
    **_ARRIVAL,
    **_POSITION,
}

_SUMMARY: Final = {
    **_SUBJECT,
    "period_type": "hourly, daily, weekly, monthly, yearly or lifetime",
    "period_start": "start of the period, inclusive, in UTC; the epoch for a lifetime",
    "period_end": "end of the period, exclusive, in UTC; NULL for a lifetime",
    "total_quantity": "total by the aggregation type of the metric; NULL if the metric has no definition",
    "record_count": "counted events",
    "sum": "sum of the quantities",
    "min_quantity": "smallest quantity",
    "max_quantity": "largest quantity",
    "avg_quantity": "sum / record_count, rounded to 9 decimals, half away from zero",
    "last_quantity": "quantity with the latest timestamp; among equal timestamps, with the highest offset",
    "is_final": "true when the period and its grace period are over for everything that has arrived",
    "updated_at": "arrival time of the newest event that the fold has read in the partition; NULL before the first",
}


def _comment(doc: str) -> str:
    """The sentence of a schema as the comment of a column."""
    return doc[0].lower() + doc[1:].rstrip(".")


def _grain(period: str, comment: str) -> Described:
    columns = {name: text for name, text in _SUMMARY.items() if name != "period_type"}
    return Described(f"usage per {period}: {comment}", columns)


_STORED: Final = "one row per organization, metric, subject and period"

COMMENTS: Final[Mapping[str, Described]] = {
    "usage_hourly": _grain("hour", _STORED),
    "usage_daily": _grain("day", _STORED),
    "usage_weekly": _grain("ISO week from Monday, derived from days", _STORED),
    "usage_monthly": _grain("month", _STORED),
    "usage_yearly": _grain("year, derived from months", _STORED),
    "usage_lifetime": _grain("lifetime of a subject", "one row per organization, metric and subject"),
    "usage_summaries": Described(
        "rows of all six views; filter by period_type, otherwise a sum counts every event six times",
        _SUMMARY,
    ),
    "usage_records": Described(
        "counted events, kept for the record retention; read with FINAL",
        {
            **_RECORD,
            **{field.name: _comment(field.doc) for field in usage_fields.FIELDS if field.optional},
            "identity_hash": "xxHash64 of subject key and id",
        },
    ),
    "identity_tables": Described(
        "compact tables of the identities that the fold remembers, in pieces; built again from usage_records when lost",
        {
            "source": "topic id and rules by which the identities were counted",
            "partition": "partition of usage.recorded",
            "week": "start of the week of arrival, a Monday in UTC",
            "covered_until": "end of the arrival times that the table covers, exclusive",
            "through": "the table has every identity of that time that was counted at an offset below this one",
            "bucket_bits": "number of buckets of the table, as a power of two",
            "piece": "number of the piece: a range of buckets",
            "counts": "identities of each bucket, as 32-bit integers",
            "remainders": "16 bits of each hash after the bits of its bucket",
            "checksum": "CRC-32 of counts and remainders",
            "rests": "last 32 bits of each hash",
            "rests_checksum": "CRC-32 of rests",
        },
    ),
    "usage_duplicates": Described(
        "events that repeat a counted event; not counted in any window; read with FINAL",
        {**_RECORD, "counted_offset": "offset of the counted event with the same identity, in the same partition"},
    ),
    "usage_rejected": Described(
        "messages that cannot be counted, with their original bytes; read with FINAL",
        {
            **_POSITION,
            **_ARRIVAL,
            "reason": "undecodable, invalid, too_old, in_future or misrouted",
            "detail": "description of the problem",
            "key": "message key, unchanged",
            "value": "message value, unchanged",
            **{name: f"{text}, as far as it can be read" for name, text in _SUBJECT.items()},
            "org_id": "organization, as far as it can be read; empty: none or unknown",
        },
    ),
    "api_tokens": Described(
        "tokens of the HTTP API, without their secrets; read with FINAL",
        {
            "id": "id of the token, its part after mf_",
            "version": "orders the versions of a token: the latest counts",
            "digest": "HMAC-SHA256 of the secret, in hexadecimal digits",
            "name": "who uses it",
            "scopes": "ingest, read, manage or admin",
            "org_id": "organization that it is for; NULL: every organization",
            "subject_type": "kind of the only subject that it sees; NULL: every subject",
            "subject_id": "the only subject that it sees; NULL: every subject",
            "created_at": "when it was created",
            "expires_at": "when it expires; NULL: never",
            "revoked_at": "when it was revoked; NULL: it was not",
        },
    ),
    "api_token_uses": Described(
        "when tokens were used last; read with FINAL",
        {"token_id": "id of the token", "last_used_at": "when a request came with it, to the minute"},
    ),
    "console_spent": Described(
        "links of the console that were used, and sessions that were signed out; read with FINAL",
        {
            "name": "the link or the session",
            "claim": "who used it: the only claim of a link signs in",
            "spent_at": "when; rows are kept for two days",
        },
    ),
    "proofs": Described(
        "verifications that the service has started; read with FINAL",
        {
            "id": "id of the verification",
            "version": "when the row was written, in UTC microseconds: the latest counts",
            "begun_at": "when it began",
            "by": "who started it",
            "state": "running, proven, different, unproven or failed",
            "done": "steps that are done",
            "total": "all steps",
            "doing": "the step that it is at; of failed: the error",
            "summary": "counts and the first findings as JSON",
        },
    ),
    "rejected_redrives": Described(
        "rejected messages that were sent again, and as what; read with FINAL",
        {
            "partition": "partition of the rejected message",
            "offset": "offset of the rejected message",
            "received_at": "arrival time of the rejected message",
            "fact": "claim: the corrected event; sent: where it was written",
            "by": "of a claim: who corrected it",
            "note": "of a claim: why",
            "key": "of a claim: message key of the corrected event",
            "value": "of a claim: message value of the corrected event",
            "sent_partition": "of sent: partition of the corrected event; otherwise -1",
            "sent_offset": "of sent: offset of the corrected event; otherwise -1",
            "at": "when this row was written",
            "earlier": "orders the rows of a message and fact: the first one wins",
        },
    ),
    "usage_windows": Described(
        "stored state of hourly, daily, monthly and lifetime windows; read the usage_... views, or use FINAL",
        {
            **_SUBJECT,
            "period_type": "hourly, daily, monthly or lifetime",
            "period_start": _SUMMARY["period_start"],
            "partition": "partition of usage.recorded that the window is folded from",
            "record_count": _SUMMARY["record_count"],
            "sum": _SUMMARY["sum"],
            "min": _SUMMARY["min_quantity"],
            "max": _SUMMARY["max_quantity"],
            "last": _SUMMARY["last_quantity"],
            "last_timestamp": "timestamp of that quantity",
            "last_offset": "offset of that quantity",
            "folded_through": "highest offset in this state; the row with the highest one is the newest",
        },
    ),
    "fold_progress": Described(
        "position and counters of the fold per partition: everything below next_offset is stored; read with FINAL",
        {
            "partition": "partition of usage.recorded",
            "next_offset": "next offset to read",
            "log_start": "offset at which the fold of this partition began",
            "counted": "events counted since log_start",
            "duplicates": "events found to be duplicates since log_start",
            "rejected": "messages rejected since log_start",
            "last_stamp": "arrival time of the last event read; the epoch before the first one",
            "flushed_at": "when this row was written",
        },
    ),
    "fold_settings": Described(
        "settings that decide which events count, written once by `meterfold migrate`; read with FINAL",
        {
            "name": "name of the setting",
            "value": "its value, as text",
            "earlier": "orders the rows of a name: the first one written wins",
        },
    ),
    "schema_decisions": Described(
        "unknown schemas on usage.recorded, and the decisions about them; read with FINAL",
        {
            "fingerprint": "16 hexadecimal digits in the order of the wire, or id:N for a schema in a Schema Registry",
            "fact": "seen, wait or decision",
            "value": "the decision: poison, or the name of a schema such as usage_recorded.v1",
            "detail": "where it was seen, or the reason of the decision",
            "at": "when this row was written",
            "earlier": "orders the rows of a fingerprint and fact: the first one wins",
        },
    ),
    "metric_definitions": Described(
        "metric definitions, copied from the topic metric.defined; read with FINAL and deleted = 0",
        {
            "id": "UUID of the definition",
            "key": "key of the metric, unique per organization",
            "name": "display name",
            "description": "description",
            "unit": "unit of the quantity: calls, tokens, bytes",
            "aggregation_type": "count, sum, avg, max, min or last",
            "reset_period": "never, hourly, daily, weekly, monthly or yearly",
            "precision": "displayed decimal digits",
            "org_id": "organization; empty: all organizations without their own definition",
            "category": "category of metrics",
            "display_order": "display order, ascending",
            "dimensions": "metadata fields that usage is grouped by",
            "metadata": "JSON object",
            "is_active": "false: its thresholds are not judged",
            "created_at": "when it was defined",
            "updated_at": "when it was last changed",
            "version": "offset of the message on metric.defined",
            "deleted": "1: the definition was deleted",
        },
    ),
    "thresholds": Described(
        "thresholds, copied from the topic threshold.defined; read with FINAL and deleted = 0",
        {
            "id": "UUID of the threshold",
            "org_id": "watched organization; NULL: all organizations; empty: subjects without an organization",
            "metric_key": "key of the watched metric",
            "subject_type": "watched subject type; NULL: all subjects, each judged separately",
            "subject_id": "watched subject; NULL: all subjects of the type",
            "name": "name; a narrower threshold replaces a wider one of the same name",
            "threshold": "exceeded at this total",
            "warn_threshold": "approaching at this total",
            "period_type": "hourly, daily, monthly or lifetime",
            "action": "none, alert, warn, block or downgrade",
            "notify_emails": "addresses to notify",
            "notify_webhook": "URL to notify",
            "is_active": "false: it is not judged",
            "metadata": "JSON object",
            "created_at": "when it was created; windows that end later are judged",
            "updated_at": "when it was last changed",
            "version": "offset of the message on threshold.defined",
            "deleted": "1: the threshold was deleted",
        },
    ),
    "threshold_events": Described(
        "threshold.approaching, threshold.exceeded and threshold.cleared as they were emitted; read with FINAL",
        {
            "event_id": "UUID of the event: alert id and event type",
            "event_type": "threshold.approaching, threshold.exceeded or threshold.cleared",
            "occurred_at": "when the checker detected it",
            "alert_id": "UUID of the alert: threshold, subject, window, level and crossing",
            "threshold_id": "UUID of the threshold",
            **_SUBJECT,
            "period_type": "hourly, daily, monthly or lifetime",
            "period_start": _SUMMARY["period_start"],
            "period_end": _SUMMARY["period_end"],
            "level": "approaching or exceeded",
            "crossing": "how many times the level was reached in this window",
            "threshold": "threshold at that time",
            "warn_threshold": "warn threshold at that time",
            "actual_value": "total of the window at that time",
            "percentage_used": "actual_value as a percentage of the threshold",
            "action": "action of the threshold at that time",
        },
    ),
    "usage_alerts": Described(
        "alerts with their status, derived from threshold_events and alert_actions",
        {
            "id": "UUID of the alert: threshold, subject, window, level and crossing",
            "threshold_id": "UUID of the threshold",
            **_SUBJECT,
            "period_type": "hourly, daily, monthly or lifetime",
            "period_start": _SUMMARY["period_start"],
            "period_end": _SUMMARY["period_end"],
            "level": "approaching or exceeded",
            "crossing": "how many times the level was reached in this window",
            "threshold": "threshold when the alert was triggered",
            "actual_value": "total of the window when the alert was triggered",
            "percentage_used": "actual_value as a percentage of the threshold",
            "action": "action of the threshold when the alert was triggered",
            "status": "pending, acknowledged or resolved",
            "acknowledged_by": "who acknowledged it",
            "acknowledged_at": "when it was acknowledged",
            "resolved_by": "who resolved it; NULL: resolved automatically",
            "resolved_at": "when it was resolved: manually, by a lower total, or by the end of the window",
            "triggered_at": "when it was triggered",
        },
    ),
    "alert_actions": Described(
        "actions on alerts, copied from the topic alert.acted; the first of each kind is valid; read with FINAL",
        {
            "alert_id": "UUID of the alert",
            "action": "acknowledge or resolve",
            "by": "who did it",
            "at": "when",
            "earlier": "minus the offset of the message on alert.acted; the row with the highest value is valid",
        },
    ),
    "usage_closed": Described(
        "usage as closed: the numbers of the newest closing of each period",
        {
            **_SUBJECT,
            **_CLOSED_PERIOD,
            "period_end": "end of the period, exclusive, in UTC",
            **{
                name: _SUMMARY[name]
                for name in (
                    "total_quantity",
                    "record_count",
                    "sum",
                    "min_quantity",
                    "max_quantity",
                    "avg_quantity",
                    "last_quantity",
                )
            },
            "last_timestamp": "timestamp of the last quantity",
            "folded_through": "highest offset in these numbers",
            "closed_at": "when the period was closed with them, or last closed",
        },
    ),
    "usage_adjustments": Described(
        "windows that moved since they were closed: one row per window and closing after which it moved",
        {
            **_SUBJECT,
            **_CLOSED_PERIOD,
            "period_end": "end of the period, exclusive, in UTC",
            "closed_at": "when the old numbers were closed",
            "revised_at": "when the new numbers were closed; NULL: not yet",
            "old_quantity": "total as closed; NULL if the window did not exist, or the metric has no definition",
            "new_quantity": "total in the next closing, or now; NULL if the metric has no definition",
            "difference": "new_quantity - old_quantity: what to invoice, or to credit if negative",
            "old_count": "counted events as closed",
            "new_count": "counted events in the next closing, or now",
            "old_sum": "sum of the quantities as closed",
            "new_sum": "sum of the quantities in the next closing, or now",
            "partition": "partition of usage.recorded that the window is folded from",
            "old_folded_through": "highest offset in the old numbers; -1 if the window did not exist",
            "new_folded_through": "highest offset in the new numbers",
            "offsets": "offsets of the events that moved it, up to 1,000; empty when their records have expired",
        },
    ),
    "closed_windows": Described(
        "states of windows that closings found; read usage_closed, or use FINAL",
        {
            **_CLOSED_PERIOD,
            **_SUBJECT,
            **_CLOSED_STATE,
        },
    ),
    "closed_dimensions": Described(
        "sums by dimension of the states in closed_windows, for days and months; read with FINAL",
        {
            **_CLOSED_PERIOD,
            **_SUBJECT,
            **_CLOSED_STATE,
            "folded_through": "folded_through of the state in closed_windows",
            "fields": "dimensions of the metric when the period was closed",
            "dimensions": "JSON object with the values of these metadata fields; a field without a value is missing",
        },
    ),
    "period_closings": Described(
        "closed periods with the checksum of their windows; read with FINAL",
        {
            "period_type": "hourly, daily or monthly",
            "period_start": "start of the period, inclusive, in UTC",
            "metric_key": "key of the metric; empty: every metric",
            "checksum": "SHA-256 checksum of the windows and their numbers",
            "window_count": "windows in the period",
            "record_count": "counted events in the period",
            "next_offsets": "per partition of usage.recorded, the offset below which all events are in the numbers",
            "closed_at": "when the period was closed",
            "earlier": "orders the rows of a closing: the first one wins",
        },
    ),
    "usage_reconciliation": Described(
        "windows that differ from a recount of their records; no rows: all agree. Exact while the fold is at rest",
        {
            **_SUBJECT,
            "period_type": "hourly, daily, monthly or lifetime",
            "period_start": _SUMMARY["period_start"],
            "partition": "partition of usage.recorded",
            "finding": "window missing, records missing or different",
            **{
                f"{side}_{name}": f"{text}, {what}"
                for name, text in (
                    ("count", "counted events"),
                    ("sum", "sum of the quantities"),
                    ("min", "smallest quantity"),
                    ("max", "largest quantity"),
                    ("last", "last quantity"),
                    ("last_timestamp", "timestamp of the last quantity"),
                    ("last_offset", "offset of the last quantity"),
                    ("folded_through", "highest offset"),
                )
                for side, what in (("stored", "in the window"), ("recounted", "by the recount"))
            },
        },
    ),
    "usage_unprovable_windows": Described(
        "windows whose records may have expired; usage_reconciliation does not compare them",
        {
            **_SUBJECT,
            "period_type": "hourly, daily or monthly",
            "period_start": _SUMMARY["period_start"],
            "partition": "partition of usage.recorded",
            "record_count": "counted events",
        },
    ),
    "mirror_progress": Described(
        "how far definitions and threshold events are copied from their topics; read with FINAL",
        {"topic": "name of the topic", "partition": "its partition", "next_offset": "next offset to copy"},
    ),
    "backups": Described(
        "backups and how far the log must reach to repair them; read with FINAL",
        {
            "name": "name of the backup, and of its folder in the destination",
            "destination": "where it is: disk:NAME, s3:COLLECTION or file:/FOLDER",
            "base": "name of the full backup that it adds to; empty: it is full",
            "status": "running, complete or failed",
            "started_at": "when it was started",
            "finished_at": "when it ended; the epoch while it runs",
            "partitions": "partitions of usage.recorded",
            "next_offsets": "per partition, the offset at which the fold begins after a restore",
            "needed_since": "per partition, the stamp of the first message that it needs then, in UTC microseconds",
            "replayable_until": "until then Kafka keeps all of these messages",
            "total_bytes": "size in the destination",
            "error": "why it failed",
        },
    ),
    "notification_tries": Described(
        "tries of deliveries by `meterfold notify`, one row per try and one (attempt 0) for the plan; read with FINAL",
        {
            **_DELIVERY,
            "round": "0: the first round; a redelivery or a test has the time of its request in UTC microseconds, by "
            "the clock of ClickHouse",
            "attempt": "number of the try in its round; 0: the plan",
            "stage": "orders the rows of a try: 0 planned, 1 begun, 2 ended; the highest one wins",
            "give_up_at": "when the delivery is given up",
            "topic": "topic that the event was read from",
            "partition": "its partition",
            "started_at": "when the try began",
            "ended_at": "when it ended",
            "payload": "the event as JSON, in the row of the plan",
        },
    ),
    "notification_deliveries": Described(
        "deliveries of events to their targets, each with the state after its last try",
        {
            **_DELIVERY,
            "round": "number of the last round; 0: the first",
            "attempts": "tries in that round",
            "last_try_at": "when the last try began",
        },
    ),
    "notification_endpoints": Described(
        "webhook endpoints that fail or are disabled, and those that were; read with FINAL",
        {
            "endpoint": "URL of the webhook",
            "state": "active, failing or disabled; nothing is sent to a disabled one",
            "since": "when the first of its failed tries began",
            "reason": "what the last try came to, or who enabled it",
            "changed_at": "when the state changed",
        },
    ),
    "notification_progress": Described(
        "how far `meterfold notify` has planned the deliveries of events; read with FINAL",
        {"topic": "name of the topic", "partition": "its partition", "next_offset": "next offset to read"},
    ),
    "schema_migrations": Described(
        "applied migrations; read with FINAL",
        {
            "version": "number of the migration",
            "name": "name of the migration",
            "checksum": "SHA-256 of the migration",
            "applied_at": "when it was applied",
        },
    ),
}
