"""`meterfold backup create|list|check|restore`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_cli import console, exits
from meterfold_cli.commands.metric import LimitOption, OffsetOption, metering
from meterfold_cli.installation import ConfigOption, JsonOption
from meterfold_schemas.plurals import plural

if TYPE_CHECKING:
    from meterfold_processor.kafka.replay import Replay
    from meterfold_service.backups.results import BackupCheck, BackupProof
    from meterfold_sink.backup_catalogue import BackupRow

app = typer.Typer(help="Back up ClickHouse, check backups against Kafka, and restore one.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the backup, as `backup list` shows it.")]


@app.command("create")
def create(
    full: Annotated[
        bool, typer.Option("--full", help="Write a full backup. [default: if the newest full one is too old]")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name of the backup. [default: the time and four digits]")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a backup of ClickHouse. Everything may run meanwhile.

    A backup is full, or has only what is new since the newest full one; the settings [backup] say where it goes and how
    often it is full. Several runs at the same time do no harm: each writes its own backup.

    Exit code 0: the backup is complete. 1: ClickHouse refused it. 3: a server does not answer; run it again later.

    Example: meterfold backup create
    """
    with metering(config) as service, console.progress("backup") as meter:
        made = service.backups.create(full=full, name=name, tell=meter)
    if as_json:
        console.emit(made)
        return
    kind = f"with what is new since {made.base}" if made.base else "full"
    console.say(
        f"backup {made.name} is complete: {kind}, {made.total_bytes:,} bytes in {made.destination}. Kafka can repair "
        f"it until {console.plain(made.replayable_until)}"
    )


@app.command("list")
def list_(
    limit: LimitOption = 100, offset: OffsetOption = 0, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List backups, the newest first, and until when Kafka keeps the events that each of them needs.

    The time is computed from the retention of usage.recorded; `backup check` compares a backup with the log itself.

    Example: meterfold backup list
    """
    with metering(config) as service:
        page = service.backups.list(limit=limit, offset=offset)
    if as_json:
        console.emit_list(page)
        return
    now = datetime.now(UTC)
    console.table(
        ["name", "status", "base", "started at", "age", "bytes", "repairable until", "left"],
        [
            [
                row.name,
                row.status,
                row.base or "(full)",
                row.started_at,
                span((now - row.started_at).total_seconds()),
                row.total_bytes,
                row.replayable_until,
                left(row, now),
            ]
            for row in page.rows
        ],
    )
    for row in page.rows:
        if row.error:
            console.note(f"{row.name}: {row.error}", style="red")
    console.note(f"{len(page.rows)} of {page.total}" if page.total else "there is no backup")


@app.command("check")
def check(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Name of the backup. [default: the newest complete one]")
    ] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Restore it into a database for a moment, and prove its numbers.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check whether a backup can be restored now: read it, and compare it with Kafka.

    For each partition of usage.recorded, the log must still have every offset from the one at which the fold would
    begin. The progress is read from the backup itself, so this also works after the database was lost.

    --restore is a drill beside production: every record and window of the restored tables is compared with Kafka, up to
    the progress of the backup. Nothing else is touched.

    Exit code 0: it can be restored. 1: it cannot, or a number differs. 3: a server does not answer; run it again later.

    Example: meterfold backup check
    """
    with metering(config) as service, console.progress("check") as meter:
        found = service.backups.check(name, restore=restore, tell=meter)
    if as_json:
        console.emit(found)
    else:
        _show_check(found)
    if not found.restorable or (found.proof is not None and found.proof.findings):
        raise typer.Exit(exits.FAILED)


@app.command("restore")
def restore(
    name: NameArgument,
    into: Annotated[
        str | None, typer.Option(metavar="DATABASE", help="Restore into this database. [default: the database in use]")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Rename the database that is there, and restore in its place.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a backup. Stop all workers first.

    Nothing is deleted: with --replace, the former database keeps its tables under a new name. Afterwards start the
    workers, which read the rest from Kafka, and run `meterfold verify`.

    Exit code 0: it is restored. 1: it is refused, for example because Kafka has deleted events that it needs, and
    nothing was changed. 3: workers are running, or a server does not answer; run it again later.

    Example: meterfold backup restore 20261129T031500Z-7f3a --replace
    """
    with metering(config) as service, console.progress("restore") as meter:
        done = service.backups.restore(name, into=into, replace_database=replace, tell=meter)
    if as_json:
        console.emit(done)
        return
    _show_partitions(done.partitions)
    waiting = sum(one.waiting for one in done.partitions)
    if done.replaced is not None:
        console.say(f"the former database is now {done.replaced}; drop it when you no longer need it")
    console.say(f"backup {done.name} is restored into {done.database}")
    steps = ["run `meterfold migrate`"] if done.needs_migration else []
    steps += [f"start the workers, which fold {plural(waiting, 'offset')} again", "run `meterfold verify`"]
    console.say(f"next: {', '.join(steps)}")


def span(seconds: float) -> str:
    """A time in its largest unit, such as 3.5 d."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def left(row: BackupRow, now: datetime) -> str:
    """How long Kafka keeps what a complete backup needs."""
    if row.status != "complete":
        return ""
    seconds = (row.replayable_until - now).total_seconds()
    return span(seconds) if seconds > 0 else "too old"


def _show_check(found: BackupCheck) -> None:
    _show_partitions(found.partitions)
    base = "" if not found.base else f", based on {found.base}"
    console.say(f"backup {found.name} in {found.destination}{base}; tables of version {found.schema_version}")
    for problem in found.problems:
        console.say(f"! {problem}", "bold red")
    if found.proof is not None:
        _show_proof(found.proof)
    lost = [one for one in found.partitions if one.lost or one.missing]
    if lost:
        from meterfold_service.backups.errors import lost_text

        for one in lost:
            console.say(f"! {lost_text(one)}", "bold red")
    if found.restorable:
        seconds = (found.replayable_until - datetime.now(UTC)).total_seconds()
        console.say(f"it can be restored until {console.plain(found.replayable_until)} ({span(seconds)} left)", "green")
    else:
        number = len(found.problems) + len(lost)
        console.say(f"it cannot be restored: {plural(number, 'problem')}", "bold red")


def _show_proof(proof: BackupProof) -> None:
    for finding in proof.findings:
        console.say(f"! {finding}", "bold red")
    for unproven in proof.unproven:
        console.say(f"? {unproven}", "yellow")
    if not proof.findings:
        console.say(f"proven: {plural(proof.records, 'record')} in {plural(proof.windows, 'window')}", "green")


def _show_partitions(partitions: Sequence[Replay]) -> None:
    console.table(
        ["partition", "folded to", "log start", "log end", "to fold", "lost", "needed since", "kept until"],
        [
            [
                str(one.partition),
                one.next_offset,
                one.log_start,
                one.log_end,
                one.waiting,
                one.lost,
                one.needed_since,
                one.kept_until,
            ]
            for one in partitions
        ],
    )
