"""Which schemas a worker may read, and how a fingerprint or registry id that it meets for the first time is decided.

What is counted must not depend on which worker reads a message, of which version, and when. So only the first version
of the schema is read without asking. Every other fingerprint (an alias that this version knows, a newer schema, one
that is unknown) needs a stored decision before a message with it is judged. A decision is written once and wins for
ever, whoever writes it:

- a worker that knows the fingerprint writes the name of the schema, at once
- one that does not writes when the fingerprint was seen, and when the hold time is over, that it is poison
- an operator writes either at any time (`meterfold schema`)

The id of a Schema Registry (Confluent wire format) is a fingerprint of its own here: a worker that can ask the registry
knows it if the registry's schema is one of ours, and writes the name of that schema. From then on the stored decision
says what the id means, with or without the registry.

It takes effect SETTLE_SECONDS after it was written. Until then an earlier one, whose insert took longer, could still
turn up; two workers would then have obeyed different ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from meterfold_schemas import catalog
from meterfold_schemas.catalog import EventSchema
from meterfold_sink.schema_decisions import POISON, Fact, SchemaFacts

EVENT = "usage_recorded"

SETTLE_SECONDS = 5.0
"""How old a decision must be to be obeyed: longer than an insert of one row takes."""

BY_TIME = "no decision within the hold time"
BY_VERSION = "a version of meterfold that knows the schema"


def always_read() -> dict[bytes, EventSchema]:
    """What every version has always read."""
    first = catalog.all_versions(EVENT)[0]
    return {first.fingerprint: first}


@dataclass(frozen=True, slots=True)
class Schemas:
    """The fingerprints (8 bytes) and registry ids (4 bytes) that are decided: how each is read, or that it is poison.
    The stored decoder version says which other formats are read: `json` that begins with {, and `confluent`, values
    with a registry id."""

    read: Mapping[bytes, EventSchema] = field(default_factory=always_read)
    poison: frozenset[bytes] = frozenset()
    json: bool = True
    confluent: bool = False


@dataclass(frozen=True, slots=True)
class Write:
    """A fact to store, and then to look again."""

    fact: Fact
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be judged yet: why, and in how many seconds that may change without a command (None: never).
    `settling`: it is decided, and the decision takes effect then."""

    why: str
    seconds: float | None
    settling: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """`schema` is None for poison."""

    schema: EventSchema | None


Step = Write | Wait | Decided


@dataclass(frozen=True, slots=True)
class Recognized:
    """What a worker itself knows about a fingerprint or registry id: its schema, None if it knows none. `why`: who says
    so, or why it is not known."""

    schema: EventSchema | None
    why: str = BY_VERSION


def next_step(
    facts: SchemaFacts | None,
    known: EventSchema | None,
    hold_seconds: float,
    where: str,
    settle: float | None = None,
    source: str = BY_VERSION,
) -> Step:
    """What to do about a fingerprint: a function of what is stored and of the schema that this version knows for it.

    `hold_seconds`: how long an unknown one is held, 0 for ever. `where` it was met, and the `source` of what is known,
    are for people.
    """
    settle = SETTLE_SECONDS if settle is None else settle
    facts = facts or SchemaFacts()
    if facts.decision is not None:
        return _decided(facts.decision, facts.decision_age, settle)
    if known is not None:
        return Write("decision", known.label, source)
    if facts.seen_at is None:
        return Write("seen", "", where)
    if facts.waits:
        return Wait("an operator wants it to wait for a decision", None)
    if hold_seconds == 0:
        return Wait("it waits for a decision", None)
    left = hold_seconds - facts.seen_age
    if left <= 0:
        return Write("decision", POISON, f"{BY_TIME} of {hold_seconds:g} s")
    return Wait(f"it is rejected in {left:.0f} s unless something else is decided", left)


def look(
    fingerprint: bytes,
    recognize: Callable[[], Recognized],
    hold_seconds: float,
    where: str,
    read: Callable[[], Mapping[bytes, SchemaFacts]],
    write: Callable[[bytes, Write], None],
) -> tuple[Wait | Decided, Mapping[bytes, SchemaFacts]]:
    """Write what has to be written until there is nothing to do but wait, or it is decided; what is stored then.

    `recognize` may ask a server, and is called only while nothing is decided.
    """
    known = Recognized(None)
    stored = read()
    if stored.get(fingerprint, SchemaFacts()).decision is None:
        known = recognize()
    while True:
        step = next_step(stored.get(fingerprint), known.schema, hold_seconds, where, source=known.why)
        if not isinstance(step, Write):
            break
        write(fingerprint, step)
        stored = read()
    if isinstance(step, Wait) and known.schema is None and known.why != BY_VERSION:
        step = replace(step, why=f"{known.why}; {step.why}")
    return step, stored


def decided(
    stored: Mapping[bytes, SchemaFacts], settle: float | None = None, *, json: bool = True, confluent: bool = False
) -> Schemas:
    """All that may be judged by what is stored. A decision for a schema that this version lacks is left out."""
    settle = SETTLE_SECONDS if settle is None else settle
    read, poison = always_read(), set[bytes]()
    for fingerprint, facts in stored.items():
        step = None if facts.decision is None else _decided(facts.decision, facts.decision_age, settle)
        if isinstance(step, Decided):
            if step.schema is None:
                poison.add(fingerprint)
                read.pop(fingerprint, None)
            else:
                read[fingerprint] = step.schema
    return Schemas(read, frozenset(poison), json, confluent)


def judged_by(stored: Mapping[bytes, SchemaFacts], *, json: bool = True, confluent: bool = False) -> Schemas:
    """What a finished fold must have judged by: what is stored, and what this version knows where nothing is."""
    schemas = decided(stored, settle=0.0, json=json, confluent=confluent)
    known = {
        fingerprint: schema
        for fingerprint, schema in catalog.fingerprints_of(EVENT).items()
        if fingerprint not in schemas.poison
    }
    return Schemas({**known, **schemas.read}, schemas.poison, json, confluent)


def _decided(decision: str, age: float, settle: float) -> Wait | Decided:
    if age < settle:
        return Wait("its decision takes effect in some seconds", settle - age, settling=True)
    if decision == POISON:
        return Decided(None)
    schema = catalog.labelled(decision)
    if schema is None or schema.name != EVENT:
        return Wait(f"it is {decision}, which this version does not know: upgrade this worker", None)
    return Decided(schema)
