"""`meterfold schema export|list|poison|alias|wait`: the published schemas, and decisions about unknown ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console
from meterfold_cli.installation import ConfigOption, Installation, JsonOption

if TYPE_CHECKING:
    from meterfold_service.schema_decisions import SchemaState
    from meterfold_sink.client import Client

app = typer.Typer(help="Export the schemas; decide about messages with an unknown schema.", no_args_is_help=True)

FingerprintArgument = Annotated[
    str,
    typer.Argument(
        metavar="FINGERPRINT",
        help="16 hexadecimal digits, or id:N of a Schema Registry, as shown by `meterfold status`.",
    ),
]
ReasonOption = Annotated[str, typer.Option(help="Reason of the decision; stored with it.")]


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the files. It is created if needed.")],
    as_json: JsonOption = False,
) -> None:
    """Write the files that producers and consumers in other languages need.

    They are the Avro schemas with their header bytes, examples, JSON Schema, the AsyncAPI document of all topics, and
    test vectors. Existing files are replaced. No server is needed.

    Example: meterfold schema export schemas/
    """
    from meterfold_schemas import published
    from meterfold_schemas.plurals import plural

    written = published.export(folder)
    if as_json:
        console.emit({"folder": folder, "files": [path.relative_to(folder).as_posix() for path in written]})
    else:
        console.say(f"{plural(len(written), 'file')} written to {folder}; docs/producing.md describes them")


@app.command("list")
def list_(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List unknown fingerprints and the decisions about them.

    Example: meterfold schema list
    """
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
    """Reject every message with this fingerprint. The decision is final.

    Takes about 5 seconds. Workers that hold a partition resume within 5 more seconds.

    Example: meterfold schema poison f69a6eec52c0f203 --reason 'sent by a test'
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
    """Read every message with this fingerprint as a known schema. The decision is final.

    Use it if a library computes another fingerprint for the same schema. The bytes after the header must follow the
    schema. Takes about 5 seconds. Workers that hold a partition resume within 5 more seconds.

    Example: meterfold schema alias f69a6eec52c0f203 usage_recorded.v1
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
    """Hold partitions at messages with this fingerprint until you decide, regardless of the hold time.

    Example: meterfold schema wait f69a6eec52c0f203
    """
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
        return "held until you decide"
    return f"held, rejected in {state.seconds_left:,.0f} s"
