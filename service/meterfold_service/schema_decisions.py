"""What an operator decides about schema fingerprints: `meterfold schema`. A decision is final.

Only usage.recorded is concerned. A worker that holds a partition looks every few seconds, and continues once the
decision has taken effect.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from meterfold_processor.fold.schemas import EVENT, SETTLE_SECONDS
from meterfold_schemas import catalog
from meterfold_schemas.errors import InvalidDefinition, MeterfoldError
from meterfold_schemas.schema_keys import parsed, shown
from meterfold_sink.client import Client
from meterfold_sink.migrate import check_schema
from meterfold_sink.schema_decisions import POISON, SchemaFacts, read_schema_facts, unknown_schema_hold, write_fact

__all__ = ["SchemaDecided", "SchemaState", "alias", "list_schemas", "poison", "wait"]

_HEADER: Final = re.compile(r"c301([0-9a-f]{16})")
_PAUSE_SECONDS: Final = 0.2

State = Literal["waits", "poison", "read"]


class SchemaDecided(MeterfoldError):
    """The fingerprint is decided already, and otherwise. A decision is final, so that every worker and every replay
    judges its messages alike."""

    code = "SCHEMA_DECIDED"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """One fingerprint: 16 hexadecimal digits, or id:N for a schema in a Schema Registry.

    waits: it holds its partitions, for `seconds_left` (None: until it is decided). poison: its messages are rejected.
    read: they are read as `schema`.
    """

    fingerprint: str
    state: State
    schema: str | None
    seen_at: datetime | None
    seen_where: str
    why: str
    seconds_left: float | None


def list_schemas(client: Client) -> list[SchemaState]:
    """Every fingerprint that was met or decided, those that wait first. Raises Retryable or Fatal."""
    check_schema(client)
    hold = unknown_schema_hold(client)
    states = [_state(shown(fingerprint), facts, hold) for fingerprint, facts in read_schema_facts(client).items()]
    return sorted(states, key=lambda one: (one.state != "waits", one.fingerprint))


def poison(client: Client, fingerprint: str, note: str = "") -> SchemaState:
    """Have messages with this fingerprint rejected. Raises SchemaDecided, InvalidDefinition, Retryable or Fatal."""
    return _decide(client, _parsed(fingerprint), POISON, note)


def alias(client: Client, fingerprint: str, schema: str, note: str = "") -> SchemaState:
    """Have messages with this fingerprint read as a schema such as usage_recorded.v1. Raises as `poison` does."""
    known = [version.label for version in catalog.all_versions(EVENT)]
    if schema not in known:
        raise InvalidDefinition(f"SCHEMA {schema!r} is not a schema of usage.recorded; known: {', '.join(known)}")
    return _decide(client, _parsed(fingerprint), schema, note)


def wait(client: Client, fingerprint: str, note: str = "") -> SchemaState:
    """Hold partitions at messages with this fingerprint until `poison` or `alias`, regardless of the hold time. Raises
    as `poison` does."""
    check_schema(client)
    key = _parsed(fingerprint)
    facts = read_schema_facts(client).get(key, SchemaFacts())
    if facts.decision is None:
        write_fact(client, key, "wait", detail=note)
        facts = read_schema_facts(client)[key]
    if facts.decision is not None:
        raise _decided_otherwise(key, facts)
    return _state(shown(key), facts, unknown_schema_hold(client))


def _decide(client: Client, fingerprint: bytes, decision: str, note: str) -> SchemaState:
    check_schema(client)
    facts = read_schema_facts(client).get(fingerprint, SchemaFacts())
    if facts.decision is None:
        write_fact(client, fingerprint, "decision", decision, note or "an operator")
        # As long as it takes until no earlier decision can turn up any more.
        while (facts := read_schema_facts(client)[fingerprint]).decision_age < SETTLE_SECONDS:
            time.sleep(_PAUSE_SECONDS)
    if facts.decision != decision:
        raise _decided_otherwise(fingerprint, facts)
    return _state(shown(fingerprint), facts, unknown_schema_hold(client))


def _decided_otherwise(fingerprint: bytes, facts: SchemaFacts) -> SchemaDecided:
    what = "its messages are rejected" if facts.decision == POISON else f"its messages are read as {facts.decision}"
    return SchemaDecided(
        f"schema {shown(fingerprint)} is decided already: {what} (by {facts.decision_why}). A decision is final, since "
        "messages were judged by it. Send rejected ones again with `meterfold rejected redrive --read-as SCHEMA`"
    )


def _parsed(text: str) -> bytes:
    """The fingerprint of 16 digits, or of a header of 20, or a registry id as `id:42`."""
    lower = text.strip().lower().removeprefix("0x")
    if header := _HEADER.fullmatch(lower):
        lower = header[1]
    try:
        fingerprint = parsed(lower)
    except ValueError:
        raise InvalidDefinition(
            f"FINGERPRINT {text!r} must be 16 hexadecimal digits in the order of the wire, such as f69a6eec52c0f203, "
            "or id: and the number of a schema in a Schema Registry, such as id:42"
        ) from None
    known = catalog.by_fingerprint(fingerprint)
    if known is not None:
        raise InvalidDefinition(
            f"FINGERPRINT {lower} is known to this version: it is {known.label}. There is nothing to decide"
        )
    return fingerprint


def _state(fingerprint: str, facts: SchemaFacts, hold: int) -> SchemaState:
    decision = facts.decision
    if decision is None:
        left = None if facts.waits or hold == 0 else max(0.0, round(hold - facts.seen_age, 1))
        return SchemaState(fingerprint, "waits", None, facts.seen_at, facts.seen_where, "", left)
    state: State = "poison" if decision == POISON else "read"
    schema = None if decision == POISON else decision
    return SchemaState(fingerprint, state, schema, facts.seen_at, facts.seen_where, facts.decision_why, None)
