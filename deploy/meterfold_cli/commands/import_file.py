"""`meterfold import FILE`: events from CSV or Parquet through the SDK, safe to run again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from meterfold_cli import console, exits
from meterfold_cli.exits import WrongInput
from meterfold_cli.installation import ConfigOption, Installation, JsonOption

if TYPE_CHECKING:
    from meterfold_cli.importing.checking import Checked, TimeLimits
    from meterfold_cli.importing.deliveries import Deliveries
    from meterfold_cli.importing.outcome import Outcome
    from meterfold_cli.importing.run import Summary
    from meterfold_cli.importing.source import Source
    from meterfold_schemas.settings import ClickHouseSettings
    from meterfold_sink.rules import FoldRules


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .csv, .tsv or .parquet file, or - for CSV on stdin.")],
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
    id_from: Annotated[
        str | None,
        typer.Option(
            "--id-from", metavar="COLUMN,...", help="Derive the id from these columns, which together identify a row."
        ),
    ] = None,
    time_format: Annotated[
        str,
        typer.Option(
            "--time-format",
            metavar="FORMAT",
            help="Format of timestamps: iso, unix, unix-ms, unix-us, unix-ns, date, or a strptime pattern such as "
            "'%d.%m.%Y %H:%M'.",
        ),
    ] = "iso",
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
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Import the other rows if some share an id but differ, or would be rejected for their timestamp.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file without sending anything.")] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File for refused rows. [default: FILE.rejects.csv or .parquet]"),
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
    """Import usage events from a CSV or Parquet file.

    Columns are the fields of an event: id, metric_key, subject_type, subject_id, quantity (default 1), timestamp,
    org_id, source, resource_type, resource_id, metadata (a JSON object).

    The file is read twice. The first pass checks it: if rows share an id but differ, or have a timestamp that the fold
    would reject, nothing is sent. The second pass sends the events. Rows that are not valid events are written to the
    rejects file; the others are imported. At the end the command prints how many events were counted, duplicates and
    rejected.

    It is safe to run it again: an id counts once.

    Exit code 0: every row was delivered and none was rejected. 1: rows were refused or events rejected. 2: the command
    line or the file is invalid; nothing was sent. 3: a server does not answer, or the fold has not caught up.
    """
    from meterfold_cli.importing.plan import Options
    from meterfold_cli.importing.source import Form, Source
    from meterfold_cli.importing.timestamps import zone_named

    options = Options(
        mapping=dict(_pairs("--map", mapping)),
        fixed=dict(_pairs("--set", fixed)),
        id_from=[name.strip() for name in (id_from or "").split(",") if name.strip()],
        ignore_others=ignore_others,
        strip=strip,
    )
    form = Form(_character(delimiter), time_format, zone_named(timezone))
    with Source(file, options, form) as source:
        _run(
            source,
            Installation.read(config),
            rejects,
            wait_seconds=None if no_wait or kafka_only else wait,
            kafka_only=kafka_only,
            partial=partial,
            dry_run=dry_run,
            as_json=as_json,
        )


def _run(
    source: Source,
    installation: Installation,
    wanted: Path | None,
    *,
    wait_seconds: float | None,
    kafka_only: bool,
    partial: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from meterfold import Meter
    from meterfold_cli.importing.checking import check
    from meterfold_cli.importing.deliveries import Deliveries
    from meterfold_cli.importing.preflight import require_kafka
    from meterfold_cli.importing.run import Import
    from meterfold_cli.importing.words import problems_of, require_none, say_checked, say_outcome, say_summary

    rows, plan = source.open()  # a wrong file is named before anything else is
    refused = source.rejects(rows, wanted)
    if not dry_run:
        require_kafka(installation.kafka())
    rules = None if kafka_only else _stored_rules(installation.clickhouse())
    limits = None if rules is None else _limits(rules)
    with console.progress(f"checking {source.name}") as tell:
        try:
            checked = check(rows, plan, _default_org(installation), limits, tell)
        finally:
            rows.close()
    say_checked(checked, rows.what)
    problems = problems_of(checked, plan.id_columns, rows.what, rules)
    if dry_run:
        _end_dry_run(checked, problems, as_json=as_json)
    if not partial:
        require_none(problems, source.name)
    rows, plan = source.open()
    since = time.time_ns() // 1000 - (rules.slack_seconds if rules else 0) * 1_000_000
    deliveries = Deliveries()
    meter = Meter(config=installation.sources.path, on_delivery=deliveries.report)
    with console.progress(f"importing {source.name}") as tell:
        summary = Import(rows, plan, meter, refused, tell, limits=limits, conflicts=checked.conflicts).run()
    outcome = None
    if wait_seconds is not None and summary.delivered and not summary.interrupted:
        outcome = _outcome(installation.clickhouse(), deliveries, since, wait_seconds)
    if as_json:
        console.emit({**asdict(summary), "repeats": checked.repeats, **_outcome_json(outcome)})
    else:
        say_summary(summary, rows.what)
        say_outcome(outcome, wait_seconds)
    _end(summary, outcome)


def _stored_rules(settings: ClickHouseSettings) -> FoldRules:
    from meterfold_schemas.errors import Retryable
    from meterfold_sink.client import connect
    from meterfold_sink.fold_state import read_rules

    try:
        with connect(settings, timeout_seconds=10) as client:
            return read_rules(client)
    except Retryable as error:
        raise Retryable(
            f"{error}. Nothing was sent, because the settings stored in ClickHouse decide which timestamps are "
            "accepted. Import again when ClickHouse answers, or use --kafka-only"
        ) from None


def _limits(rules: FoldRules) -> TimeLimits:
    from meterfold_cli.importing.checking import TimeLimits

    return TimeLimits(rules.horizon_seconds, rules.future_tolerance_seconds)


def _default_org(installation: Installation) -> str:
    from meterfold.settings import SdkSettings
    from meterfold_schemas.settings import load_settings

    return load_settings(SdkSettings, "sdk", sources=installation.sources).org_id


def _end_dry_run(checked: Checked, problems: Sequence[str], *, as_json: bool) -> NoReturn:
    from meterfold_cli.importing.words import say_dry_run

    if as_json:
        console.emit({**asdict(checked), "conflicts": len(checked.conflicts)})
    else:
        say_dry_run(checked, problems)
    clean = not (checked.unusable or len(checked.conflicts) or checked.untimely)
    raise typer.Exit(exits.OK if clean else exits.FAILED)


def _outcome(settings: ClickHouseSettings, deliveries: Deliveries, since: int, seconds: float) -> Outcome | str:
    """The error as text if ClickHouse no longer answers; the events are delivered nevertheless."""
    from meterfold_cli.importing.outcome import wait_for_fold
    from meterfold_schemas.errors import Retryable
    from meterfold_sink.client import connect

    try:
        with connect(settings) as client, console.progress("folding") as tell:
            return wait_for_fold(client, deliveries, since, seconds, tell)
    except Retryable as error:
        return str(error)


def _outcome_json(outcome: Outcome | str | None) -> dict[str, Any]:
    known = asdict(outcome) if outcome is not None and not isinstance(outcome, str) else {}
    return {
        name: known.get(name) for name in ("counted", "duplicates", "rejected", "pending", "unknown", "rejected_shown")
    }


def _end(summary: Summary, outcome: Outcome | str | None) -> None:
    """Exits with the code of docs/cli.md."""
    if summary.interrupted:
        raise typer.Exit(exits.INTERRUPTED)
    if summary.failed or not summary.complete:
        raise typer.Exit(exits.UNAVAILABLE)
    if summary.refused or (outcome is not None and not isinstance(outcome, str) and outcome.rejected):
        raise typer.Exit(exits.FAILED)
    if isinstance(outcome, str) or (outcome is not None and (outcome.pending or outcome.unknown)):
        raise typer.Exit(exits.UNAVAILABLE)


def _pairs(option: str, texts: Sequence[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise WrongInput(f"{option} {text!r} must have the form NAME=VALUE")
        pairs.append((name.strip(), value.strip() if option == "--map" else value))
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise WrongInput(f"{option} names {', '.join(sorted({n for n in names if names.count(n) > 1}))} twice")
    return pairs


def _character(delimiter: str | None) -> str | None:
    if delimiter is None:
        return None
    character = "\t" if delimiter.lower() in ("\\t", "tab") else delimiter
    if len(character) != 1 or character in '"\r\n':
        raise WrongInput(f"--delimiter {delimiter!r} must be one character, such as ';', or tab")
    return character
