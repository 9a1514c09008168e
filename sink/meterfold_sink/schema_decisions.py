"""What is stored about schema fingerprints and registry ids that came on usage.recorded: when each was seen, and what
was decided.

A decision is final: the first row of a fingerprint wins for ever. Ages are measured by ClickHouse's clock alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

import pyarrow as pa

from meterfold_schemas.errors import Fatal
from meterfold_schemas.schema_keys import parsed, shown
from meterfold_sink.client import Client
from meterfold_sink.fold_state import read_settings
from meterfold_sink.rules import DEFAULT_HOLD_SECONDS, POISON, POISON_FINGERPRINT, UNKNOWN_SCHEMA_HOLD
from meterfold_sink.writers import Writer

__all__ = [
    "DEFAULT_HOLD_SECONDS",
    "POISON",
    "Fact",
    "SchemaFacts",
    "read_schema_facts",
    "unknown_schema_hold",
    "write_fact",
    "write_unknown_schema_hold",
]

_LONG_AGO: Final = 1e9

Fact = Literal["seen", "wait", "decision"]

_ROWS: Final = """
SELECT fingerprint, fact, value, detail, at, toFloat64(dateDiff('microsecond', at, now64(6, 'UTC'))) / 1e6 AS age
FROM schema_decisions FINAL
ORDER BY fingerprint, fact
"""


@dataclass(frozen=True, slots=True)
class SchemaFacts:
    """One fingerprint. `decision` is POISON or the label of a schema, None while nothing is decided; `waits`: an
    operator wants it to be held until something is. Ages in seconds."""

    seen_at: datetime | None = None
    seen_where: str = ""
    seen_age: float = 0.0
    waits: bool = False
    decision: str | None = None
    decision_why: str = ""
    decision_age: float = 0.0


def read_schema_facts(client: Client) -> dict[bytes, SchemaFacts]:
    """fingerprint (8 bytes) or registry id (4 bytes) -> what is stored about it.

    Raises Retryable, or Fatal for a row that cannot be read.
    """
    found: dict[bytes, SchemaFacts] = {}
    for row in client.rows(_ROWS):
        fingerprint = _fingerprint(row["fingerprint"], "schema_decisions")
        facts = found.get(fingerprint, SchemaFacts())
        match row["fact"]:
            case "seen":
                facts = replace(facts, seen_at=row["at"], seen_where=row["detail"], seen_age=row["age"])
            case "wait":
                facts = replace(facts, waits=True)
            case "decision":
                facts = replace(facts, decision=row["value"], decision_why=row["detail"], decision_age=row["age"])
        found[fingerprint] = facts
    # The rows of versions that had no decisions but these; they were there first.
    for name, why in read_settings(client).items():
        if name.startswith(POISON_FINGERPRINT):
            fingerprint = _fingerprint(name.removeprefix(POISON_FINGERPRINT), "fold_settings")
            facts = found.get(fingerprint, SchemaFacts())
            found[fingerprint] = replace(facts, decision=POISON, decision_why=why, decision_age=_LONG_AGO)
    return found


def write_fact(client: Client, fingerprint: bytes, fact: Fact, value: str = "", detail: str = "") -> None:
    """Store a fact unless there is one of its kind already, which then stays. Raises Retryable or Fatal."""
    row = {"fingerprint": [shown(fingerprint)], "fact": [fact], "value": [value], "detail": [detail]}
    Writer(client).insert("schema_decisions", pa.table(row))


def unknown_schema_hold(client: Client) -> int:
    """For how many seconds an unknown schema holds its partition before it is decided to be poison; 0: for ever."""
    text = read_settings(client).get(UNKNOWN_SCHEMA_HOLD, str(DEFAULT_HOLD_SECONDS))
    if not (text.isascii() and text.isdecimal()):
        raise Fatal(f"fold_settings: {UNKNOWN_SCHEMA_HOLD} is {text!r}, which is not a whole number of seconds")
    return int(text)


def write_unknown_schema_hold(client: Client, seconds: int) -> None:
    """Set it. Other than the rest of fold_settings it may change at any time: what counts is decided by stored
    decisions alone."""
    row = {
        "name": pa.array([UNKNOWN_SCHEMA_HOLD]),
        "value": pa.array([str(seconds)]),
        # Above the usual negative values of this column, and the later the larger.
        "earlier": pa.array([client.value("SELECT toUnixTimestamp64Micro(now64(6))")], pa.int64()),
    }
    Writer(client).insert("fold_settings", pa.table(row))


def _fingerprint(text: str, table: str) -> bytes:
    try:
        return parsed(text)
    except ValueError as error:
        raise Fatal(f"{table}: {error}") from None
