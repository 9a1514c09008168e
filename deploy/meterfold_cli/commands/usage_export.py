"""`meterfold usage export`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console
from meterfold_cli.commands.metric import metering
from meterfold_cli.commands.usage import FromOption, MonthOption, SinceOption, ToOption, ZoneOption, app, subject_of
from meterfold_cli.exits import WrongInput
from meterfold_cli.installation import ConfigOption, JsonOption
from meterfold_schemas.periods import Period
from meterfold_service.exports.results import Format, What

if TYPE_CHECKING:
    from meterfold_service.exports.results import Exported

_MEGABYTE = 1_000_000


@app.command("export")
def export(
    what: Annotated[What, typer.Argument(metavar="WHAT", help="records, summaries, duplicates or rejected.")],
    to: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="File to write; - is standard output.")],
    format: Annotated[Format | None, typer.Option("--format", help="Format. [default: the suffix of the file]")] = None,
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
    period: Annotated[Period, typer.Option("--period", help="Period of the summaries.")] = Period.DAILY,
    safe: Annotated[
        bool,
        typer.Option("--safe-for-spreadsheets", help="In CSV, put an apostrophe before text that is a formula."),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export all rows of a selection to a file, or to standard output: of all time, unless you give a time.

    Example: meterfold usage export records --metric api.calls --month 2026-10 --output october.parquet
    """
    from meterfold_cli.spans import span

    begin: datetime | None = None
    until: datetime | None = None
    if any(option is not None for option in (month, since, start, end)):
        begin, until = span(datetime.now(UTC), tz, month=month, since=since, start=start, end=end)
    if to == "-":
        if as_json:
            raise WrongInput("--json needs a file: standard output carries the rows")
        if format is None:
            raise WrongInput("--output - needs --format: csv, parquet, jsonl or arrow")
    with metering(config) as service, console.progress(f"exporting {what}", "rows") as show:
        done = service.usage.export(
            what,
            to=sys.stdout.buffer if to == "-" else Path(to),
            format=format,
            metric_key=metric,
            subject=None if subject is None else subject_of(subject),
            org_id=org,
            start=begin,
            end=until,
            period=period.value,
            safe_for_spreadsheets=safe,
            overwrite=overwrite,
            on_progress=lambda rows, total, size: show(rows, total, _amount(rows, size)),
        )
    if as_json:
        console.emit(done)
    else:
        console.note(_line(done))


def _line(done: Exported) -> str:
    where = "" if done.path is None else f" in {done.path}"
    return f"exported {_amount(done.rows, done.size)}{where}"


def _amount(rows: int, size: int) -> str:
    from meterfold_schemas.plurals import plural

    return f"{plural(rows, 'row')}, {size / _MEGABYTE:,.1f} MB"
