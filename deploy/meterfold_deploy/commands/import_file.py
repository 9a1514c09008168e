"""`meterfold import FILE`: events from CSV or Parquet through the SDK, safe to run again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meterfold_deploy import console, exits
from meterfold_deploy.exits import WrongInput
from meterfold_deploy.installation import ConfigOption, Installation, JsonOption

if TYPE_CHECKING:
    from meterfold_deploy.importing.plan import Options, Plan, Reader
    from meterfold_deploy.importing.rows import Rows
    from meterfold_deploy.importing.run import Summary


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .csv, .tsv or .parquet file, or - for CSV on stdin.")],
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=FIELD", help="A column is this field, or metadata.NAME. Repeatable."),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="One value for every row. Repeatable."),
    ] = None,
    id_from: Annotated[
        str | None,
        typer.Option("--id-from", metavar="COLUMN,...", help="Make each id from the columns that make a row unique."),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option("--timezone", metavar="ZONE", help="What timestamps without an offset mean: UTC, Europe/Berlin."),
    ] = None,
    ignore_others: Annotated[
        bool, typer.Option("--ignore-others", help="Leave out columns that are no field and not mapped.")
    ] = False,
    delimiter: Annotated[str | None, typer.Option(help="Of a CSV file; else a comma, a tab for .tsv.")] = None,
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where refused rows go; else FILE.rejects.csv.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import usage events from a file.

    Columns are the fields of an event: id, metric_key, subject_type, subject_id, quantity (1 where it is not given),
    timestamp, org_id, source, resource_type, resource_id, metadata (a JSON object).

    Running it again is safe: an id that arrived before counts once. A refused row never stops the others.
    """
    from meterfold import Meter
    from meterfold_deploy.importing.plan import Options
    from meterfold_deploy.importing.rejects import Rejects
    from meterfold_deploy.importing.run import Import

    options = Options(
        mapping=dict(_pairs("--map", mapping)),
        fixed=dict(_pairs("--set", fixed)),
        id_from=[name.strip() for name in (id_from or "").split(",") if name.strip()],
        ignore_others=ignore_others,
    )
    rows, plan = _open(file, options, timezone, delimiter)
    Installation.read(config).kafka()
    target = rejects or Path("stdin.rejects.csv" if str(file) == "-" else f"{file}.rejects.csv")
    with console.progress(f"importing {file}") as tell:
        summary = Import(rows, plan, Meter(config=config), Rejects(target, rows.columns), tell).run()
    if as_json:
        console.emit(summary)
    else:
        _say(summary, rows.what)
    if summary.interrupted:
        raise typer.Exit(exits.INTERRUPTED)
    if not summary.well:
        raise typer.Exit(exits.UNAVAILABLE if summary.failed else exits.FAILED)


def _open(file: Path, options: Options, timezone: str | None, delimiter: str | None) -> tuple[Rows, Plan]:
    from meterfold_deploy.importing.csv_rows import CsvRows
    from meterfold_deploy.importing.plan import make_plan
    from meterfold_deploy.importing.timestamps import from_text, zone_named

    zone = zone_named(timezone)
    fixed = _checked({**options.fixed}, lambda text: from_text(text, zone))
    readers: dict[str, Callable[[str], Reader | None]]
    kind = file.suffix.lower()
    if kind in (".parquet", ".pq"):
        from meterfold_deploy.importing.parquet_rows import ParquetRows

        parquet = ParquetRows(file)
        texts = ("id", "metric_key", "subject_type", "subject_id", "org_id", "source", "resource_type", "resource_id")
        readers = {**dict.fromkeys(texts, parquet.text_reader), "timestamp": parquet.timestamp_reader(zone)}
        plan = make_plan(parquet.columns, _with(options, fixed), readers)
        parquet.use(plan.used)
        return parquet, plan
    if kind not in (".csv", ".tsv", ".txt") and str(file) != "-":
        raise WrongInput(f"{file}: not a kind of file that can be imported; give .csv, .tsv or .parquet")
    if delimiter is not None and len(delimiter) != 1:
        raise WrongInput(f"--delimiter {delimiter!r} must be one character")
    rows = CsvRows(file, delimiter or ("\t" if kind == ".tsv" else ","))
    readers = {"timestamp": lambda _: lambda text: from_text(text, zone)}
    return rows, make_plan(rows.columns, _with(options, fixed), readers)


def _checked(fixed: dict[str, Any], read_time: Callable[[str], Any]) -> dict[str, Any]:
    """The values of --set, judged once instead of once per row."""
    from datetime import UTC, datetime

    from meterfold_deploy.importing.plan import FIELDS
    from meterfold_schemas.errors import InvalidUsage
    from meterfold_schemas.usage import UsageRecorded

    good = {
        "id": "id",
        "metric_key": "m",
        "subject_type": "t",
        "subject_id": "s",
        "quantity": 1,
        "timestamp": datetime.now(UTC),
    }
    try:
        if "timestamp" in fixed:
            fixed["timestamp"] = read_time(fixed["timestamp"])
        UsageRecorded.of({**good, **{name: value for name, value in fixed.items() if name in FIELDS}})
    except InvalidUsage as error:
        raise WrongInput(f"--set: {error}") from None
    return fixed


def _with(options: Options, fixed: Mapping[str, Any]) -> Options:
    from dataclasses import replace

    return replace(options, fixed=fixed)


def _pairs(option: str, texts: Sequence[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise WrongInput(f"{option} {text!r}: give it as NAME=VALUE")
        pairs.append((name.strip(), value.strip() if option == "--map" else value))
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise WrongInput(f"{option} names {', '.join(sorted({n for n in names if names.count(n) > 1}))} twice")
    return pairs


def _say(summary: Summary, what: str) -> None:
    rate = f" in {summary.seconds:.1f} s" if summary.seconds >= 0.1 else ""
    console.say(f"{summary.read:,} rows read{rate}: {summary.handed_in:,} handed in, {summary.delivered:,} delivered")
    if summary.refused:
        console.note(
            f"{summary.refused:,} rows refused; correct them in {summary.rejects} and import that file", "yellow"
        )
    if summary.interrupted:
        console.note(f"interrupted at {what} {summary.last_line:,}; run the same command again, nothing counts twice")
    elif summary.failed:
        console.note(
            f"stopped at {what} {summary.last_line:,}: {summary.failed:,} events were not delivered "
            f"({summary.first_failure}). Run the same command again when Kafka is well, nothing counts twice",
            "red",
        )
