"""`meterfold schema`: decide about messages whose schema fingerprint this version does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meterfold_deploy import console
from meterfold_deploy.exits import WrongInput
from meterfold_deploy.installation import ConfigOption, Installation, JsonOption

app = typer.Typer(help="Decide about messages with an unknown schema.", no_args_is_help=True)

FingerprintArgument = Annotated[
    str, typer.Argument(metavar="FINGERPRINT", help="16 hexadecimal digits, as `meterfold status` shows them.")
]
ReasonOption = Annotated[str, typer.Option(help="Why, for whoever reads it later.")]


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the fingerprints that were met or decided about."""
    from meterfold_sink.client import connect
    from meterfold_sink.schema_decisions import read_schema_facts

    with connect(Installation.read(config).clickhouse()) as client:
        facts = read_schema_facts(client)
    rows = [(key.hex(), found.decision or ("waits" if found.waits else "undecided")) for key, found in facts.items()]
    if as_json:
        console.emit([{"fingerprint": fingerprint, "decision": decision} for fingerprint, decision in rows])
    else:
        console.table(("fingerprint", "decision"), rows)


@app.command()
def poison(fingerprint: FingerprintArgument, reason: ReasonOption = "", config: ConfigOption = None) -> None:
    """Reject messages with this fingerprint. The decision is final."""
    from meterfold_sink.schema_decisions import POISON

    _decide(fingerprint, POISON, reason, config)


@app.command()
def alias(
    fingerprint: FingerprintArgument,
    schema: Annotated[str, typer.Argument(metavar="SCHEMA", help="Such as usage_recorded.v1.")],
    reason: ReasonOption = "",
    config: ConfigOption = None,
) -> None:
    """Read messages with this fingerprint as this schema. The decision is final."""
    from meterfold_schemas import catalog

    if catalog.labelled(schema) is None:
        raise WrongInput(f"there is no schema {schema!r}; usage.recorded takes usage_recorded.v1")
    _decide(fingerprint, schema, reason, config)


@app.command()
def wait(fingerprint: FingerprintArgument, reason: ReasonOption = "", config: ConfigOption = None) -> None:
    """Hold partitions with this fingerprint until `poison` or `alias` decides, or the workers are upgraded."""
    from meterfold_sink.client import connect
    from meterfold_sink.schema_decisions import write_fact

    key = _bytes(fingerprint)
    with connect(Installation.read(config).clickhouse()) as client:
        write_fact(client, key, "wait", detail=reason)
    console.say(f"messages with {fingerprint} hold their partition until you decide")


def _decide(fingerprint: str, decision: str, reason: str, config: Path | None) -> None:
    from meterfold_sink.client import connect
    from meterfold_sink.schema_decisions import read_schema_facts, write_fact

    key = _bytes(fingerprint)
    with connect(Installation.read(config).clickhouse()) as client:
        write_fact(client, key, "decision", decision, reason)
        stored = read_schema_facts(client)[key].decision
    if stored != decision:
        raise WrongInput(f"{fingerprint} was decided before, as {stored}: a decision is final")
    console.say(f"{fingerprint}: {decision}; workers apply it within some seconds")


def _bytes(fingerprint: str) -> bytes:
    try:
        key = bytes.fromhex(fingerprint)
    except ValueError:
        key = b""
    if len(key) != 8:
        raise WrongInput(f"{fingerprint!r} is not a fingerprint; give 16 hexadecimal digits")
    return key
