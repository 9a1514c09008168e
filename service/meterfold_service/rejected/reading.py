"""Rejected messages with what can be read of them, and what became of those that were sent again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from meterfold_schemas import catalog
from meterfold_schemas.periods import micros
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.usage_fields import SCHEMA
from meterfold_service.rejected.decoding import decoded_event
from meterfold_service.rejected.results import Position, Redrive, RedriveState, RejectedMessage
from meterfold_sink.fold_state import read_progress
from meterfold_sink.rejected import Place, RejectedRow, Result, StoredRedrive, read_redrives, results_at
from meterfold_sink.schema_decisions import read_schema_facts

if TYPE_CHECKING:
    from meterfold_schemas.catalog import EventSchema
    from meterfold_sink.client import Client

__all__ = ["messages", "read_aliases", "redrive_state"]

_DAY: Final = 86_400_000_000


def messages(client: Client, rows: Sequence[RejectedRow]) -> Iterator[RejectedMessage]:
    """The messages of these rows, in their order. Raises Retryable or Fatal."""
    if not rows:
        return
    aliases = read_aliases(client)
    stored = read_redrives(client, [row.row_key for row in rows])
    sent = {one.sent: one.sent_at for one in stored.values() if one.sent is not None and one.sent_at is not None}
    results = _results(client, sent)
    reached = {number: row.next_offset for number, row in read_progress(client).items()} if sent else {}
    for row in rows:
        known = stored.get(row.place)
        yield RejectedMessage(
            Position(*row.place),
            row.received_at,
            row.reason,
            row.detail,
            row.org_id,
            row.metric_key,
            row.subject_type,
            row.subject_id,
            row.key,
            row.value,
            decoded_event(row.value, aliases),
            None if known is None else _redrive(known, results, reached),
        )


def _results(client: Client, sent: Mapping[Place, datetime]) -> Mapping[Place, Result]:
    """`sent`: where events were written, and when that was stored."""
    if not sent:
        return {}
    # Brokers' clocks and ClickHouse's may differ, though not by a day.
    earliest, latest = micros(min(sent.values())) - _DAY, micros(max(sent.values())) + _DAY
    return results_at(client, list(sent), earliest=earliest, latest=latest)


def redrive_state(place: Place, result: Result | None, reached: Mapping[int, int]) -> RedriveState:
    """What became of the event that was sent to `place`. `reached`: partition -> the next offset to fold."""
    if result is not None:
        return result.kind
    return "expired" if reached.get(place[0], 0) > place[1] else "not folded"


def read_aliases(client: Client) -> dict[bytes, EventSchema]:
    """How schema keys (see schema_keys.py) are read that are decided. Raises Retryable or Fatal."""
    found = {}
    for fingerprint, facts in read_schema_facts(client).items():
        schema = catalog.labelled(facts.decision) if facts.decision else None
        if schema is not None and schema.name == SCHEMA:
            found[fingerprint] = schema
    return found


def _redrive(known: StoredRedrive, results: Mapping[Place, Result], reached: Mapping[int, int]) -> Redrive:
    state: RedriveState = "not sent"
    detail = ""
    if known.sent is not None:
        result = results.get(known.sent)
        state = redrive_state(known.sent, result, reached)
        if result is not None and result.counted_offset is not None:
            detail = f"counted at {Position(known.sent[0], result.counted_offset)}"
        elif result is not None and result.reason:
            detail = f"{result.reason}: {result.detail}"
    return Redrive(
        state,
        known.at,
        known.claim.by,
        known.claim.note,
        UsageRecorded.from_bytes(known.claim.value),
        None if known.sent is None else Position(*known.sent),
        detail,
    )
