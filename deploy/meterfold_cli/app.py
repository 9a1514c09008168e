"""The commands. Each is a module in commands/, imported when it runs, and imports heavy packages only then.

The list of commands and shell completion need only their names and a line of help. Building all of them would cost
each command 0.15 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


@dataclass(frozen=True, slots=True)
class Entry:
    """`attribute` of the module in commands/: a function, or a Typer with subcommands. `cls`: its class, another
    attribute. `more`: further modules, which add subcommands."""

    module: str
    attribute: str
    help: str
    hidden: bool = False
    cls: str | None = None
    more: tuple[str, ...] = ()


COMMANDS: Final[Mapping[str, Entry]] = {
    "demo": Entry("demo", "demo", "Meter a million real events and verify the result."),
    "up": Entry("up", "up", "Run the local stack: Kafka, ClickHouse and workers."),
    "migrate": Entry("migrate", "migrate", "Create tables, views, topics and settings."),
    "fold": Entry("fold", "fold", "Run a fold worker."),
    "check": Entry("check", "check", "Run a checker."),
    "status": Entry("status", "status", "Show offsets, lag, counts and problems.", cls="StatusCommand"),
    "top": Entry("top", "top", "Watch rates, lag, busy subjects and limits live."),
    "verify": Entry("verify", "verify", "Prove every number."),
    "import": Entry("import_file", "import_file", "Import events from a CSV, JSON or Parquet file."),
    "alert": Entry("alert", "app", "List alerts, acknowledge and resolve them."),
    "capacity": Entry("capacity", "capacity", "Estimate what an installation of a given load needs."),
    "backup": Entry("backup", "app", "Back up ClickHouse, check backups against Kafka, and restore one."),
    "metric": Entry("metric", "app", "Define metrics."),
    "notify": Entry("notify", "app", "Send notifications of alerts, and show what became of them."),
    "periods": Entry("periods", "app", "Close periods: prove their numbers, keep them, and show what moved since."),
    "rejected": Entry("rejected", "app", "Show rejected messages, and send them again with a correction."),
    "schema": Entry("schema", "app", "Export the schemas; decide about messages with an unknown schema."),
    "schemas": Entry("schema", "app", "The same group.", hidden=True),
    "serve": Entry("serve", "serve", "Serve the HTTP API."),
    "settings": Entry("settings", "app", "Show and change the stored settings of an installation."),
    "threshold": Entry("threshold", "app", "Define thresholds on metrics."),
    "token": Entry("token", "app", "Create, list and revoke tokens of the HTTP API."),
    "usage": Entry("usage", "app", "Show usage: totals by period, or single records.", more=("usage_export",)),
}


class Commands(TyperGroup):
    """Imports a command when it is asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, entry in COMMANDS.items():
            self.commands[name] = TyperCommand(
                name, callback=None, short_help=entry.help, hidden=entry.hidden, rich_markup_mode=None
            )
        self._names_only = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        known = self.commands.get(cmd_name)
        return known if known is None or self._names_only else _built(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            # Typer passes on what pydantic says about a value.
            message = error.message.removeprefix("Value error, ")
            error.message = message.replace("Input should be", "the value must be", 1)
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with self._listing():
            super().format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        with self._listing():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _listing(self) -> Iterator[None]:
        self._names_only = True
        try:
            yield
        finally:
            self._names_only = False


app = typer.Typer(
    name="meterfold",
    cls=Commands,
    help="Usage metering on Kafka and ClickHouse: every accepted event counts exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        import importlib.metadata

        typer.echo(f"meterfold {importlib.metadata.version('meterfold')}")
        raise typer.Exit


def _built(name: str) -> Any:
    """The command, as if it were the only one of the application."""
    entry = COMMANDS[name]
    module = import_module(f"meterfold_cli.commands.{entry.module}")
    found = getattr(module, entry.attribute)
    for name_of_more in entry.more:
        import_module(f"meterfold_cli.commands.{name_of_more}")
    alone = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        alone.add_typer(found, name=name)
    else:
        alone.command(name, cls=None if entry.cls is None else getattr(module, entry.cls))(found)
    return get_group(alone).commands[name]
