"""The commands. Each is a module in commands/ and imports heavy packages only when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from meterfold_cli.commands import (
    alert,
    check,
    demo,
    fold,
    import_file,
    metric,
    migrate,
    periods,
    schema,
    status,
    threshold,
    up,
    usage,
    verify,
)

app = typer.Typer(
    name="meterfold",
    help="Usage metering on Kafka and ClickHouse: every accepted event counts exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("demo", short_help="Meter a million real events and verify the result.")(demo.demo)
app.command("up", short_help="Run the local stack: Kafka, ClickHouse and workers.")(up.up)
app.command("migrate", short_help="Create tables, views, topics and settings.")(migrate.migrate)
app.command("fold", short_help="Run a fold worker.")(fold.fold)
app.command("check", short_help="Run a checker.")(check.check)
app.command("status", cls=status.StatusCommand, short_help="Show offsets, lag, counts and problems.")(status.status)
app.command("verify", short_help="Prove every number.")(verify.verify)
app.command("import", short_help="Import events from a CSV, JSON or Parquet file.")(import_file.import_file)
app.add_typer(alert.app, name="alert")
app.add_typer(metric.app, name="metric")
app.add_typer(periods.app, name="periods")
app.add_typer(schema.app, name="schema")
app.add_typer(schema.app, name="schemas", hidden=True)  # the same group
app.add_typer(threshold.app, name="threshold")
app.add_typer(usage.app, name="usage")


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        import importlib.metadata

        typer.echo(f"meterfold {importlib.metadata.version('meterfold')}")
        raise typer.Exit
