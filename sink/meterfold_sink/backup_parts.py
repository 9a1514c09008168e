"""BACKUP and RESTORE: what a backup is made of, in which order, and the statements.

A backup is three of ClickHouse's own, each taken when the one before is complete. The fold writes records, then
windows, then progress. A backup reads in the opposite direction, so whatever a row of an earlier part vouches for is in
a later one: the windows below a progress row, the records in a window, the numbers of a closing. Newer rows in a later
part do no harm, since the fold begins at the progress row and writes them again.

    1-progress   the tables that say how far others are complete: VOUCHING
    2-windows    usage_windows
    3-rest       every other table

A restore goes the other way, and the rows of fold_progress come last. Half a restore has none: a worker then folds the
whole log, or refuses to start because the log does not reach back to its beginning.

ClickHouse binds no parameters in these statements: names are quoted, and a destination has only the characters that
`Destination` allows.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from meterfold_schemas.errors import Fatal, InvalidSettings, Retryable
from meterfold_sink.errors import MISSING_TABLE, code_of
from meterfold_sink.migrate import migrations, view_statements

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = [
    "PARTS",
    "PROGRESS",
    "REST",
    "VOUCHING",
    "WINDOWS",
    "BackupNotFound",
    "Destination",
    "back_up",
    "create_database",
    "drop_database",
    "forget_definitions",
    "rename_database",
    "restore",
    "restore_views",
    "tables_of",
]

PROGRESS: Final = "1-progress"
WINDOWS: Final = "2-windows"
REST: Final = "3-rest"
PARTS: Final = (PROGRESS, WINDOWS, REST)

VOUCHING: Final = ("fold_progress", "mirror_progress", "notification_progress", "period_closings", "schema_migrations")
"""Tables whose rows say that rows of other tables are complete."""

_TEMPORARY: Final = ("verify_", "closing_")
"""Prefixes of tables that a proof or a closing makes for itself and drops."""
_DESTINATION: Final = re.compile(r"(disk|s3|file):(.+)", re.ASCII)
_PATH: Final = re.compile(r"/?[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
_NOT_FOUND: Final = frozenset({599, 605})
"""BACKUP_NOT_FOUND, BACKUP_ENTRY_NOT_FOUND."""
_UNSEEN_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 2.0


class BackupNotFound(Fatal):
    """The destination has no such backup, or a part of it is missing."""

    code = "BACKUP_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where ClickHouse keeps backups. `kind` disk: `place` is the name of a disk that `backups.allowed_disk` lists; s3:
    the name of a named collection, which has the address and the keys; file: a folder below `backups.allowed_path`.
    `prefix` is a path inside of it, or empty."""

    kind: str
    place: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """disk:NAME[/PREFIX], s3:COLLECTION[/PREFIX] or file:/FOLDER. Raises InvalidSettings."""
        found = _DESTINATION.fullmatch(text)
        if found is None or not _PATH.fullmatch(found[2]) or found[2].startswith("/") != (found[1] == "file"):
            raise InvalidSettings(
                f"the backup destination {text!r} must be disk:NAME[/PREFIX], s3:COLLECTION[/PREFIX] or file:/FOLDER, "
                "with letters, digits, and the characters _ . - in each name"
            )
        if found[1] == "file":
            return cls("file", found[2])
        place, _, prefix = found[2].partition("/")
        return cls(found[1], place, prefix)

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}" + (f"/{self.prefix}" if self.prefix else "")

    def path(self, name: str, part: str) -> str:
        """The place of one part, as ClickHouse names it in a statement."""
        if not _NAME.fullmatch(name):
            raise InvalidSettings(
                f"the backup name {name!r} must have 1 to 100 letters, digits, and the characters _ . -, and begin "
                "with a letter or a digit"
            )
        inside = "/".join(piece for piece in (self.prefix, name, part) if piece)
        match self.kind:
            case "disk":
                return f"Disk('{self.place}', '{inside}')"
            case "s3":
                return f"S3({self.place}, '{inside}')"
            case _:
                return f"File('{self.place}/{inside}')"


def tables_of(client: Client, database: str) -> list[str]:
    """The tables with data in a database: no views, and nothing that a running command makes for itself."""
    rows = client.rows(
        "SELECT name FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree' ORDER BY name",
        {"database": database},
    )
    return [row["name"] for row in rows if not row["name"].startswith(_TEMPORARY)]


def back_up(
    client: Client, destination: Destination, name: str, part: str, tables: Sequence[str], base: str | None
) -> int:
    """Write one part; with the name of a full backup as `base` only what is new since. Returns its size in bytes.

    Raises Retryable or Fatal.
    """
    named = ", ".join(f"TABLE {_quoted(client.database)}.{_quoted(table)}" for table in tables)
    since = "" if base is None else f", base_backup = {destination.path(base, part)}"
    return _run(client, f"BACKUP {named} TO {destination.path(name, part)}", since)


def restore(
    client: Client,
    destination: Destination,
    name: str,
    part: str,
    source: str,
    target: str,
    tables: Sequence[str] = (),
    *,
    structure_only: bool = False,
) -> None:
    """Restore one part of a backup of the database `source` into the database `target`: everything, or these tables,
    or these tables without their rows.

    Raises BackupNotFound, Retryable or Fatal.
    """
    what = ", ".join(
        f"TABLE {_quoted(source)}.{_quoted(table)} AS {_quoted(target)}.{_quoted(table)}" for table in tables
    )
    what = what or f"DATABASE {_quoted(source)} AS {_quoted(target)}"
    settings = ", structure_only = 1" if structure_only else ""
    _run(client, f"RESTORE {what} FROM {destination.path(name, part)}", settings)


def create_database(client: Client, database: str) -> None:
    client.command(f"CREATE DATABASE IF NOT EXISTS {_quoted(database)}")


def drop_database(client: Client, database: str) -> None:
    client.command(f"DROP DATABASE IF EXISTS {_quoted(database)} SYNC")


def rename_database(client: Client, database: str, name: str) -> None:
    client.command(f"RENAME DATABASE {_quoted(database)} TO {_quoted(name)}")


def forget_definitions(client: Client, topics: Sequence[str]) -> None:
    """Have the mirror copy the compacted topics of definitions from their beginnings. A definition that was deleted
    after the backup may have left no trace in its topic: read on from the restored position, it would stay."""
    for table in ("metric_definitions", "thresholds"):
        client.command(f"TRUNCATE TABLE {table}")
    client.command(
        "ALTER TABLE mirror_progress DELETE WHERE has({topics:Array(String)}, topic)",
        {"topics": list(topics)},
        {"mutations_sync": 2},
    )


def restore_views(client: Client, version: int) -> None:
    """Create the views as the migrations up to `version` leave them. A backup has none, because they name the database
    that they were created in."""
    for migration in migrations():
        if migration.version <= version:
            for statement in view_statements(migration):
                client.command(statement)


def _run(client: Client, statement: str, settings: str = "") -> int:
    """Run a BACKUP or RESTORE to its end and return its size. The server works on its own, so that no time-out of a
    connection or proxy ends it, and a request that is sent again finds its id taken."""
    identity = uuid.uuid4().hex
    try:
        client.command(f"{statement} SETTINGS id = '{identity}'{settings} ASYNC")
    except Fatal as error:
        raise _named(error, statement) from error
    pause, unseen = _PAUSE_SECONDS, 0.0
    while True:
        rows = client.rows(
            "SELECT toString(status) AS status, error, compressed_size FROM system.backups WHERE id = {id:String}",
            {"id": identity},
        )
        if not rows:
            if unseen >= _UNSEEN_SECONDS:
                raise Retryable(
                    f"ClickHouse does not know the state of `{statement}`: the server was restarted, or another "
                    "replica answers. Connect to one server, and repeat the command"
                )
            unseen += pause
        elif rows[0]["status"] in ("BACKUP_CREATED", "RESTORED"):
            return int(rows[0]["compressed_size"])
        elif not rows[0]["status"].startswith(("CREATING", "RESTORING")):
            raise _failure(statement, rows[0]["status"], rows[0]["error"])
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)


def _failure(statement: str, status: str, text: str) -> Fatal:
    reason = re.sub(r", Stack trace.*", "", text, flags=re.DOTALL)
    reason = re.sub(r"DB::Exception: ", "", reason)
    code = re.match(r"Code: (\d+)", reason)
    if code is not None and int(code[1]) in _NOT_FOUND:
        return BackupNotFound(f"`{statement}`: {reason}. List the destination, and check the name and the database")
    return Fatal(f"`{statement}` ended with {status}: {reason}")


def _named(error: Fatal, statement: str) -> Fatal:
    code = code_of(error)
    if code in _NOT_FOUND:
        return BackupNotFound(str(error))
    if code == MISSING_TABLE:
        return Fatal(f"`{statement}`: {error}")
    return error


def _quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
