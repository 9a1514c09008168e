"""`meterfold import FILE`: events from a file as people have it, through the SDK, safe to run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console
from meterfold_cli.exits import WrongInput
from meterfold_cli.installation import ConfigOption, Installation, JsonOption

if TYPE_CHECKING:
    from meterfold_cli.importing.mapping import Mapping


def _list_presets(wanted: bool) -> None:
    if wanted:
        from meterfold_cli.importing.mapping_file import presets

        console.table(("preset", "file"), list(presets().items()))
        raise typer.Exit


def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A .csv, .tsv, .jsonl, .json or .parquet file, also compressed (.gz, .zst), or - for standard input.",
        ),
    ],
    mapping_file: Annotated[
        Path | None, typer.Option("--mapping", metavar="FILE", help="TOML file that maps the columns.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", metavar="NAME", help="Mapping of a known format; see --presets.")
    ] = None,
    list_presets: Annotated[
        bool, typer.Option("--presets", help="List the presets and exit.", callback=_list_presets, is_eager=True)
    ] = False,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="COLUMN=FIELD", help="Read a field, or metadata.NAME, from a column. Repeatable."
        ),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set a field to one value in every row. Repeatable."),
    ] = None,
    subjects: Annotated[
        list[str] | None,
        typer.Option(
            "--subject",
            metavar="TYPE=COLUMN",
            help="Read subject_id of this type from a column. Repeatable: the first column that is not empty.",
        ),
    ] = None,
    metric_from: Annotated[
        str | None,
        typer.Option(
            "--metric-from",
            metavar="COLUMN,...",
            help="Make the metric of the text of these columns: lower case, '_' for other characters.",
        ),
    ] = None,
    metric_keys: Annotated[
        list[str] | None,
        typer.Option("--metric-key", metavar="TEXT=KEY", help="Metric of one text of the metric's column. Repeatable."),
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            metavar="METRIC=COLUMN",
            help="Read the quantity of this metric from a column. Repeatable: one event for each.",
        ),
    ] = None,
    scale: Annotated[
        str | None, typer.Option("--scale", metavar="FACTOR", help="Multiply quantities by this number, exactly.")
    ] = None,
    rounding: Annotated[
        str | None,
        typer.Option(
            "--rounding",
            metavar="RULE",
            help="half_even or half_up rounds quantities to 9 decimals; refuse refuses those with more. "
            "[default: refuse]",
        ),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="Import only rows with COLUMN=VALUE or COLUMN!=VALUE. Repeatable: all must hold; several values of "
            "one column with = are alternatives.",
        ),
    ] = None,
    id_from: Annotated[
        str | None,
        typer.Option(
            "--id-from", metavar="COLUMN,...", help="Derive the id from these columns, which together identify a row."
        ),
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(
            "--time-format",
            metavar="FORMAT",
            help="Format of timestamps: iso, unix, unix-ms, unix-us, unix-ns, date, or a strptime pattern such as "
            "'%d.%m.%Y %H:%M'. [default: iso]",
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            "--timezone", metavar="ZONE", help="Time zone of timestamps without a UTC offset: UTC, Europe/Berlin, ..."
        ),
    ] = None,
    ignore_others: Annotated[
        bool, typer.Option("--ignore-others", help="Ignore columns that are neither fields nor mapped.")
    ] = False,
    strip: Annotated[bool, typer.Option("--strip", help="Remove spaces around every cell.")] = False,
    delimiter: Annotated[
        str | None,
        typer.Option(metavar="CHARACTER", help="Delimiter of a CSV file. [default: ',', or a tab for .tsv]"),
    ] = None,
    write_mapping: Annotated[
        Path | None,
        typer.Option("--write-mapping", metavar="FILE", help="Write the mapping to a TOML file and exit."),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Import the other rows if some share an id but differ, or would be rejected for their timestamp.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check the file and show its events, counts and refusals without sending anything."
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the import of this file that broke off before.")
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File for refused rows. [default: FILE.rejects.csv, .jsonl or .parquet]"),
    ] = None,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="Wait up to this long for the fold to process the events."
        ),
    ] = 60.0,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return when Kafka has the events; do not wait for the fold.")
    ] = False,
    kafka_only: Annotated[
        bool,
        typer.Option(
            "--kafka-only",
            help="Do not use ClickHouse: timestamps are not checked, and --no-wait is implied.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import usage events from a CSV, JSON or Parquet file.

    Without a mapping, columns are the fields of an event: id, metric_key, subject_type, subject_id, quantity (default
    1), timestamp, org_id, source, resource_type, resource_id, metadata (a JSON object). Options, --mapping FILE or
    --preset NAME map other files; options change a mapping. docs/importing.md describes the TOML file.

    The file is read twice. The first pass checks it: if rows share an id but differ, or have a timestamp that the fold
    would reject, nothing is sent. The second pass sends the events. Rows that are not valid events are written to the
    rejects file; the others are imported. At the end the command prints how many events were counted, duplicates and
    rejected.

    It is safe to run it again: an id counts once. --resume also skips the rows that were delivered.

    Exit code 0: every row was delivered and none was rejected. 1: rows were refused or events rejected. 2: the command
    line or the file is invalid; nothing was sent. 3: a server does not answer, or the fold has not caught up.

    Example: meterfold import focus.csv.gz --preset focus-1.3 --dry-run
    """
    from meterfold_cli.importing import mapping_file as stored
    from meterfold_cli.importing.options import Options
    from meterfold_cli.importing.session import Session
    from meterfold_cli.importing.source import Form, Source
    from meterfold_cli.importing.timestamps import zone_named

    base, base_name = _base(mapping_file, preset)
    options = Options(
        mapping=dict(_pairs("--map", mapping)),
        fixed=dict(_pairs("--set", fixed)),
        id_from=_names(id_from),
        ignore_others=ignore_others,
        strip=strip,
        where=_conditions(where),
        measures=_pairs("--measure", measures),
        subjects=_pairs("--subject", subjects, distinct=False),
        metric_from=_names(metric_from),
        metric_table=dict(_pairs("--metric-key", metric_keys, last=True)),
        scale=scale,
        rounding=_rounding(rounding),
        base=base,
        base_name=base_name,
    )
    form = Form(_character(delimiter), time_format, zone_named(timezone))
    with Source(file, options, form) as source:
        if write_mapping is not None:
            source.open()
            assert source.mapping is not None
            stored.write(source.mapping, write_mapping)
            console.say(f"wrote {write_mapping}; use it with --mapping {write_mapping}")
            return
        session = Session(
            source,
            Installation.read(config),
            rejects,
            wait_seconds=None if no_wait or kafka_only else wait,
            kafka_only=kafka_only,
            partial=partial,
            continued=resume,
            as_json=as_json,
        )
        if dry_run:
            session.dry_run()
        session.run()


def _base(path: Path | None, preset: str | None) -> tuple[Mapping | None, str]:
    from meterfold_cli.importing import mapping_file as stored

    if path is not None and preset is not None:
        raise WrongInput(
            "--mapping and --preset exclude each other; --write-mapping saves a preset as a file to change"
        )
    if path is not None:
        return stored.read(path), str(path)
    if preset is not None:
        return stored.preset(preset), f"preset {preset}"
    return None, "options"


def _pairs(
    option: str, texts: Sequence[str] | None, *, last: bool = False, distinct: bool = True
) -> list[tuple[str, str]]:
    """`last`: the last = divides, because the left side is any text."""
    pairs = []
    for text in texts or ():
        name, equals, value = text.rpartition("=") if last else text.partition("=")
        if not equals or not name or not value:
            raise WrongInput(f"{option} {text!r} must have the form NAME=VALUE")
        pairs.append((name if last else name.strip(), value if option == "--set" else value.strip()))
    names = [name for name, _ in pairs]
    if distinct and len(set(names)) != len(names):
        raise WrongInput(f"{option} names {', '.join(sorted({n for n in names if names.count(n) > 1}))} twice")
    return pairs


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _conditions(texts: Sequence[str] | None) -> list[str]:
    from meterfold_cli.importing.mapping import condition

    for text in texts or ():
        try:
            condition(text)
        except ValueError as error:
            raise WrongInput(f"--where {error}") from None
    return list(texts or ())


def _rounding(name: str | None) -> str | None:
    if name in (None, "refuse", "half_even", "half_up"):
        return name
    raise WrongInput(f"--rounding {name!r} is unknown; give half_even, half_up or refuse")


def _character(delimiter: str | None) -> str | None:
    if delimiter is None:
        return None
    character = "\t" if delimiter.lower() in ("\\t", "tab") else delimiter
    if len(character) != 1 or character in '"\r\n':
        raise WrongInput(f"--delimiter {delimiter!r} must be one character, such as ';', or tab")
    return character
