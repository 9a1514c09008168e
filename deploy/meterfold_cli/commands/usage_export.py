"""`meterfold usage export`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterfold_cli import console
from meterfold_cli.commands.metric import metering
from meterfold_cli.commands.usage import FromOption, MonthOption, SinceOption, ToOption, ZoneOption, app, subject_of
from meterfold_cli.exits import UNAVAILABLE, WrongInput
from meterfold_cli.installation import ConfigOption, JsonOption
from meterfold_schemas.periods import Period
from meterfold_schemas.plurals import listed, plural
from meterfold_service.exports.results import Format, What

if TYPE_CHECKING:
    from meterfold_service.exports.results import Days, Exported

_MEGABYTE = 1_000_000


class By(StrEnum):
    """The choices of --by."""

    DAY = "day"


@app.command("export")
def export(
    what: Annotated[
        What, typer.Argument(metavar="WHAT", help="records, summaries, duplicates, rejected or adjustments.")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="PATH", help="File to write, or - for standard output; with --by day, a folder."
        ),
    ],
    format: Annotated[
        Format | None, typer.Option("--format", help="Format. [default: the suffix of the file; parquet with --by day]")
    ] = None,
    by: Annotated[By | None, typer.Option("--by", help="One file for each complete UTC day.")] = None,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="With --by day, also write days that are not complete yet.")
    ] = False,
    metric: Annotated[str | None, typer.Option("--metric", metavar="KEY", help="Only this metric.")] = None,
    subject: Annotated[str | None, typer.Option("--subject", metavar="TYPE:ID", help="Only this subject.")] = None,
    org: Annotated[
        str | None, typer.Option("--org", help="Only this organization; '' for subjects without one. [default: all]")
    ] = None,
    month: MonthOption = None,
    since: SinceOption = None,
    start: FromOption = None,
    end: ToOption = None,
    tz: ZoneOption = None,
    period: Annotated[
        Period | None,
        typer.Option("--period", help="Period of summaries (default daily) or adjustments. [default: all]"),
    ] = None,
    safe: Annotated[
        bool,
        typer.Option("--safe-for-spreadsheets", help="In CSV, put an apostrophe before text that is a formula."),
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Export the records that are left if some have expired.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export all rows of a selection to a file, or to standard output: of all time, unless you give a time.

    With --by day it writes one file per complete UTC day into a folder, and skips days that have one: run it from cron.

    Example: meterfold usage export records --metric api.calls --month 2026-10 --output october.parquet

    Example: meterfold usage export records --by day --since 30d --output exports
    """
    from meterfold_cli.spans import span

    begin: datetime | None = None
    until: datetime | None = None
    if any(option is not None for option in (month, since, start, end)):
        begin, until = span(datetime.now(UTC), tz, month=month, since=since, start=start, end=end)
    if by is not None:
        if begin is None or until is None:
            raise WrongInput("--by day needs a time: --since, --month, or --from")
        if to == "-" or overwrite:
            raise WrongInput("--by day writes new files into a folder: give its path, without --overwrite")
    elif incomplete:
        raise WrongInput("--incomplete needs --by day")
    elif to == "-":
        if as_json:
            raise WrongInput("--json needs a file: standard output carries the rows")
        if format is None:
            raise WrongInput("--output - needs --format: csv, parquet, jsonl or arrow")
    selection: dict[str, Any] = {
        "metric_key": metric,
        "subject": None if subject is None else subject_of(subject),
        "org_id": org,
        "period": period,
        "safe_for_spreadsheets": safe,
        "partial": partial,
    }
    with metering(config) as service, console.progress(f"exporting {what}", "rows") as show:
        if by is not None and begin is not None:
            days = service.usage.export_days(
                what,
                to=to,
                format=format or Format.PARQUET,
                start=begin,
                end=until,
                incomplete=incomplete,
                on_progress=lambda day, rows, total, size: show(rows, total, f"{day}: {_amount(rows, size)}"),
                **selection,
            )
        else:
            done = service.usage.export(
                what,
                to=sys.stdout.buffer if to == "-" else Path(to),
                format=format,
                start=begin,
                end=until,
                overwrite=overwrite,
                on_progress=lambda rows, total, size: show(rows, total, _amount(rows, size)),
                **selection,
            )
    if by is not None:
        _show_days(days, as_json=as_json)
    elif as_json:
        console.emit(done)
    else:
        console.note(_line(done))


def _show_days(days: Days, *, as_json: bool) -> None:
    """Exit code 3 where a day is over and the fold has not passed it: run the command again later."""
    if as_json:
        console.emit(days)
    else:
        for done in days.written:
            console.say(_line(done))
        for number, why in (
            (days.present, "there already"),
            (days.open, "not over yet"),
            (days.behind, "not folded yet"),
        ):
            if number:
                console.note(
                    f"{plural(len(number), 'day')} {why}: {listed([str(day) for day in number[:3]], len(number))}"
                )
    if days.behind:
        raise typer.Exit(UNAVAILABLE)


def _line(done: Exported) -> str:
    where = "" if done.path is None else f" in {done.path}"
    lost = f"; {plural(done.expired, 'record')} of these hours expired before" if done.expired else ""
    return f"exported {_amount(done.rows, done.size)}{where}{lost}"


def _amount(rows: int, size: int) -> str:
    return f"{plural(rows, 'row')}, {size / _MEGABYTE:,.1f} MB"
