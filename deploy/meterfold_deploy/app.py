"""The commands, put together. Each is a module in commands/ and imports what is heavy only when it runs."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import typer

from meterfold_deploy.commands import fold, import_file, migrate, status, up

app = typer.Typer(
    name="meterfold",
    help="Usage metering on Kafka and ClickHouse: every accepted event counts exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("up")(up.up)
app.command("migrate")(migrate.migrate)
app.command("fold")(fold.fold)
app.command("status")(status.status)
app.command("import")(import_file.import_file)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"meterfold {importlib.metadata.version('meterfold')}")
        raise typer.Exit
