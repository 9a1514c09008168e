"""Numbered migrations: migrations/NNNN_name.sql, applied in order, each recorded with its checksum.

Every statement of a migration may be repeated, so a run that died in the middle is simply run again. The checksum is
that of the file, not of what settings render into it.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

import pyarrow as pa

from meterfold_schemas.errors import Fatal
from meterfold_sink.client import Client
from meterfold_sink.comments import COMMENTS
from meterfold_sink.errors import MISSING_DATABASE, MISSING_TABLE, code_of
from meterfold_sink.fold_state import read_settings
from meterfold_sink.rules import FoldRules
from meterfold_sink.server import server_now
from meterfold_sink.writers import Writer

__all__ = [
    "OLDEST_COMPATIBLE",
    "Migration",
    "applied",
    "check_schema",
    "migrate",
    "migrations",
    "statements",
    "view_statements",
]

OLDEST_COMPATIBLE: Final = 14
"""Workers that know the migrations up to this one can start on the tables of this version: what came later only adds
tables, columns, indexes and views. So a worker that ends in the middle of an upgrade comes back. A migration that
changes what an older worker writes or reads raises it."""

_COMPATIBLE: Final = "schema_compatible_with"
"""The row of fold_settings that tells older versions; the newest row of this name wins."""

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version    UInt32,
    name       String,
    checksum   String COMMENT 'SHA-256 of the migration',
    applied_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
"""
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_PLACE = re.compile(r"\{([a-z_]+)\}")
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_END = re.compile(r";\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file; `text` has places such as {record_retention_seconds}."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations of this version, in order and without gaps."""
    found = []
    for file in resources.files("meterfold_sink").joinpath("migrations").iterdir():
        if match := _FILE.fullmatch(file.name):
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise Fatal("the installed package lacks migrations or has one twice: install meterfold again")
    return tuple(found)


def statements(migration: Migration, values: Mapping[str, int]) -> list[str]:
    """The statements of a migration with `values` in their places."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise Fatal(f"migration {migration.version:04d}_{migration.name} wants an unknown value {match[0]}")
        return str(values[match[1]])

    text = _PLACE.sub(value, _COMMENT.sub("", migration.text))
    return [part.strip() for part in _END.split(text) if part.strip()]


def view_statements(migration: Migration) -> list[str]:
    """Those that create a view. Views have no places for values."""
    text = _COMMENT.sub("", migration.text)
    return [part.strip() for part in _END.split(text) if part.strip().startswith("CREATE OR REPLACE VIEW")]


def migrate(client: Client, rules: FoldRules) -> list[Migration]:
    """Bring the client's database to this version; returns what was applied. Safe to repeat after any failure.

    The comments of tables, views and columns are renewed each time.
    Raises Fatal for a newer schema or an altered migration, before anything is changed.
    """
    client.command(_TABLE)
    done = applied(client)
    _check_history(done)
    values = {"record_retention_seconds": rules.record_retention_seconds}
    new = [migration for migration in migrations() if migration.version not in done]
    for migration in new:
        for statement in statements(migration, values):
            client.command(statement)
        _record(client, migration)
    _write_compatible(client)
    _write_comments(client)
    return new


def check_schema(client: Client) -> None:
    """Raises Fatal unless the database has the migrations of this version, and none that it does not work with."""
    try:
        done = applied(client)
    except Fatal as error:
        if code_of(error) in (MISSING_TABLE, MISSING_DATABASE):
            raise Fatal(
                f"the ClickHouse database {client.database!r} has no Meterfold tables: run `meterfold migrate`"
            ) from error
        raise
    newest = migrations()[-1].version
    if newest < max(done, default=0) and _compatible_with(client) <= newest:
        done = {version: found for version, found in done.items() if version <= newest}
    _check_history(done)
    missing = [migration for migration in migrations() if migration.version not in done]
    if missing:
        raise Fatal(
            f"the ClickHouse schema is at version {max(done, default=0)}, but this version of meterfold requires "
            f"{newest}: run `meterfold migrate`"
        )


def applied(client: Client) -> dict[int, tuple[str, str]]:
    """version -> (name, checksum) of the applied migrations."""
    rows = client.rows("SELECT version, name, checksum FROM schema_migrations FINAL ORDER BY version")
    return {row["version"]: (row["name"], row["checksum"]) for row in rows}


def _check_history(done: Mapping[int, tuple[str, str]]) -> None:
    newest = migrations()[-1].version
    if done and max(done) > newest:
        raise Fatal(
            f"the ClickHouse schema is at version {max(done)}, and this version of meterfold knows only {newest}: use "
            "the newer version that migrated it"
        )
    for migration in migrations():
        name, checksum = done.get(migration.version, (migration.name, migration.checksum))
        if checksum != migration.checksum:
            raise Fatal(
                f"migration {migration.version:04d}_{name} was applied with other contents than this version has "
                f"(checksum {checksum[:12]} instead of {migration.checksum[:12]}), so the tables may differ from what "
                "it expects. Use the version of meterfold that migrated them"
            )


def _record(client: Client, migration: Migration) -> None:
    row = pa.table(
        {
            "version": pa.array([migration.version], pa.uint32()),
            "name": [migration.name],
            "checksum": [migration.checksum],
        }
    )
    Writer(client).insert("schema_migrations", row)


def _compatible_with(client: Client) -> int:
    """The oldest version that works with the tables; later than any where none is stored."""
    text = read_settings(client).get(_COMPATIBLE, "")
    return int(text) if text.isascii() and text.isdecimal() else sys.maxsize


def _write_compatible(client: Client) -> None:
    if _compatible_with(client) == OLDEST_COMPATIBLE:
        return
    row = {
        "name": [_COMPATIBLE],
        "value": [str(OLDEST_COMPATIBLE)],
        # Above the usual negative values of this column, and the later the larger.
        "earlier": pa.array([server_now(client)], pa.int64()),
    }
    Writer(client).insert("fold_settings", pa.table(row))


def _write_comments(client: Client) -> None:
    """Bring the comments in ClickHouse to COMMENTS; nothing is sent where they already are."""
    database = {"database": client.database}
    tables = client.rows("SELECT name, comment FROM system.tables WHERE database = {database:String}", database)
    columns = client.rows(
        "SELECT table, name, comment FROM system.columns WHERE database = {database:String}", database
    )
    table_comments = {row["name"]: row["comment"] for row in tables}
    column_comments = {(row["table"], row["name"]): row["comment"] for row in columns}
    for table, described in COMMENTS.items():
        changes = [
            f"COMMENT COLUMN `{column}` {_quoted(text)}"
            for column, text in described.columns.items()
            if column_comments.get((table, column), text) != text
        ]
        if table_comments.get(table, described.comment) != described.comment:
            changes.append(f"MODIFY COMMENT {_quoted(described.comment)}")
        if changes:
            client.command(f"ALTER TABLE {table} {', '.join(changes)}")


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
