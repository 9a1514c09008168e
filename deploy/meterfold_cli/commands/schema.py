"""`meterfold schema list|poison|alias|wait`: what is decided about schema fingerprints on usage.recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console
from meterfold_cli.installation import ConfigOption, Installation, JsonOption

if TYPE_CHECKING:
    from meterfold_service.schema_decisions import SchemaState
    from meterfold_sink.client import Client

app = typer.Typer(help="Decide how messages with an unknown schema are treated.", no_args_is_help=True)

FingerprintArgument = Annotated[
    str, typer.Argument(metavar="FINGERPRINT", help="16 hexadecimal digits, as `meterfold status` shows them.")
]
ReasonOption = Annotated[str, typer.Option(help="Why, for whoever reads it later.")]


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the fingerprints that were met or decided."""
    from meterfold_service.schema_decisions import list_schemas

    with _client(config) as client:
        states = list_schemas(client)
    if as_json:
        console.emit(states)
        return
    headers = ("fingerprint", "state", "schema", "first seen", "where", "decided by")
    console.table(headers, [(s.fingerprint, _text(s), s.schema, s.seen_at, s.seen_where, s.why) for s in states])


@app.command("poison")
def poison(
    fingerprint: FingerprintArgument,
    reason: ReasonOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject every message with this fingerprint. Final: it cannot be changed later.

    Takes about 5 seconds. Workers that hold a partition resume within 5 more seconds.
    """
    from meterfold_service import schema_decisions

    _run(lambda client: schema_decisions.poison(client, fingerprint, reason), config, as_json)


@app.command("alias")
def alias(
    fingerprint: FingerprintArgument,
    schema: Annotated[str, typer.Argument(metavar="SCHEMA", help="Schema of the messages, such as usage_recorded.v1.")],
    reason: ReasonOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read every message with this fingerprint as a known schema. Final: it cannot be changed later.

    The bytes behind the header must be those of the schema: a library that computes another fingerprint for the same
    schema. Takes about 5 seconds. Workers that hold a partition resume within 5 more seconds.
    """
    from meterfold_service import schema_decisions

    _run(lambda client: schema_decisions.alias(client, fingerprint, schema, reason), config, as_json)


@app.command("wait")
def wait(
    fingerprint: FingerprintArgument,
    reason: ReasonOption = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold partitions at messages with this fingerprint until you decide, regardless of the hold time."""
    from meterfold_service import schema_decisions

    _run(lambda client: schema_decisions.wait(client, fingerprint, reason), config, as_json)


def _run(operation: Callable[[Client], SchemaState], config: ConfigOption, as_json: bool) -> None:
    with _client(config) as client:
        state = operation(client)
    if as_json:
        console.emit(state)
    else:
        console.say(f"{state.fingerprint}  {_text(state)}")


def _client(config: ConfigOption) -> Client:
    from meterfold_sink.client import connect

    return connect(Installation.read(config).clickhouse())


def _text(state: SchemaState) -> str:
    if state.state == "read":
        return f"read as {state.schema}"
    if state.state == "poison":
        return "rejected"
    if state.seconds_left is None:
        return "held until it is decided"
    return f"held, rejected in {state.seconds_left:,.0f} s"
