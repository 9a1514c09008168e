"""`meterfold settings show|set`: the stored settings, which are the same for every worker."""

from __future__ import annotations

from typing import Annotated

import typer

from meterfold_cli import console
from meterfold_cli.commands.metric import metering
from meterfold_cli.confirming import YesOption, confirm
from meterfold_cli.exits import FAILED, WrongInput
from meterfold_cli.installation import ConfigOption, JsonOption

app = typer.Typer(help="Show and change the stored settings of an installation.", no_args_is_help=True)


@app.command("show")
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the stored settings, the retention of tables and topics, and the workers that run.

    Code 1: a table or topic does not keep its data as long as the stored settings say.

    Example: meterfold settings show
    """
    from meterfold_schemas.plurals import plural
    from meterfold_service.settings.durations import duration_text

    with metering(config) as service:
        view = service.settings.show()
    if as_json:
        console.emit(view)
    else:
        stored = {**console.plain(view.rules), "unknown_schema_hold_seconds": view.unknown_schema_hold_seconds}
        tables = {f"TTL of {name}": ttl for name, ttl in view.table_retentions.items()}
        topics = {f"retention of {name}": kept // 1000 for name, kept in view.topic_retentions.items()}
        rows = [
            *(
                (name, value, duration_text(value) if name.endswith("_seconds") else None)
                for name, value in stored.items()
            ),
            *((name, kept, "for ever" if kept is None else duration_text(kept)) for name, kept in tables.items()),
            *((name, kept, "for ever" if kept < 0 else duration_text(kept)) for name, kept in topics.items()),
        ]
        console.table(
            ("setting", "value", "that is"),
            [(name, None if value is None else str(value), text) for name, value, text in rows],
        )
        running = [f"{plural(members, 'member')} of {group}" for group, members in view.workers.items()]
        console.note(f"workers: {', '.join(running) or 'none'}")
        for problem in view.problems:
            console.say(f"! {problem}")
    if view.problems:
        raise typer.Exit(FAILED)


@app.command("set")
def set_(
    values: Annotated[
        list[str],
        typer.Argument(metavar="NAME=VALUE...", help="Settings and values: seconds, or a number with m, h, d or w."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change stored settings while every worker is stopped, and the retention of tables and topics with them.

    It refuses combinations that could count an event twice, and changes nothing then. Repeating it is safe.

    Example: meterfold settings set horizon_seconds=60d record_retention_seconds=120d --dry-run
    """
    wanted: dict[str, str] = {}
    for text in values:
        name, separator, value = text.partition("=")
        if not separator or name in wanted:
            problem = "is given twice" if separator else "must be NAME=VALUE, such as horizon_seconds=60d"
            raise WrongInput(f"{text!r} {problem}")
        wanted[name] = value
    with metering(config) as service:
        change = service.settings.change(wanted, dry_run=True)
        if not dry_run and (change.changes or change.effects):
            if not yes:
                lines = [f"{one.name}: {one.old} -> {one.new}" for one in change.changes]
                confirm("changing stored settings", [*lines, *change.effects])
            change = service.settings.change(wanted)
    if as_json:
        console.emit(change)
        return
    if not (change.changes or change.effects):
        console.say("nothing to change")
    for one in change.changes:
        console.say(f"{one.name}: {one.old} -> {one.new}")
    for effect in change.effects:
        console.say(f"- {effect}")
    if dry_run:
        console.note("Nothing was changed (--dry-run).")
    elif change.changes or change.effects:
        console.note("Start the workers, then run `meterfold status` and `meterfold verify`.")
