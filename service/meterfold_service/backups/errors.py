"""The errors of backups. Each carries what it is about as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from meterfold_schemas.plurals import noun, plural
from meterfold_service.errors import OperationError

if TYPE_CHECKING:
    from meterfold_processor.kafka.replay import Replay

__all__ = [
    "BackupExists",
    "BackupTooOld",
    "CatalogueLost",
    "DatabaseNotEmpty",
    "NoBackup",
    "RestoreIncomplete",
    "lost_text",
]


class NoBackup(OperationError):
    """The catalogue has no complete backup, or none with this name."""

    code = "NO_BACKUP"

    def __init__(self, name: str | None = None) -> None:
        which = "no complete backup" if name is None else f"no backup {name!r}"
        super().__init__(f"the catalogue has {which}. See `meterfold backup list`, or run `meterfold backup create`")
        self.name = name


class BackupExists(OperationError):
    """The catalogue has a backup with this name."""

    code = "BACKUP_EXISTS"

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a backup {name!r} already. Choose another name, or leave --name out")
        self.name = name


class CatalogueLost(OperationError):
    """ClickHouse has no table `backups`, so it was lost with the database, or `migrate` was not run."""

    code = "CATALOGUE_LOST"

    def __init__(self, database: str, destination: str) -> None:
        super().__init__(
            f"the database {database!r} has no catalogue of backups. If the database is new, run `meterfold migrate`. "
            f"If it was lost, list the folders in {destination} with the tools of that storage (a folder is one "
            "backup), then run `meterfold backup check NAME` and `meterfold backup restore NAME`"
        )
        self.database = database
        self.destination = destination


class BackupTooOld(OperationError):
    """Kafka does not have everything any more that the backup needs: `partitions` of usage.recorded with lost or
    missing offsets."""

    code = "BACKUP_TOO_OLD"

    def __init__(self, name: str, partitions: Sequence[Replay]) -> None:
        super().__init__(
            f"backup {name!r} cannot be repaired by the log: {'; '.join(map(lost_text, partitions))}. Nothing was "
            "changed. Restore a newer backup; docs/backups.md says what is left when there is none"
        )
        self.name = name
        self.partitions = tuple(partitions)


class RestoreIncomplete(OperationError):
    """A restore broke off. The target has some of the tables, and no progress of the fold."""

    code = "RESTORE_INCOMPLETE"

    def __init__(self, name: str, database: str, cause: Exception) -> None:
        super().__init__(
            f"the restore of backup {name!r} into {database!r} is incomplete: {cause}. Start no worker; repeat it with "
            "--replace, which keeps what was restored so far under another name"
        )
        self.name = name
        self.database = database


class DatabaseNotEmpty(OperationError):
    """The target has tables."""

    code = "DATABASE_NOT_EMPTY"

    def __init__(self, database: str, tables: int) -> None:
        super().__init__(
            f"the database {database!r} has {plural(tables, 'table')}. Give --replace to rename it and restore in its "
            "place, or --into another database"
        )
        self.database = database
        self.tables = tables


def lost_text(one: Replay) -> str:
    """Such as "partition 0 needs offset 5, and its log begins at 9: 4 offsets are deleted"."""
    if one.missing:
        return (
            f"partition {one.partition} is folded up to offset {one.next_offset}, and its log ends at {one.log_end}: "
            f"{plural(one.missing, 'offset')} {noun(one.missing, 'is', 'are')} missing"
        )
    return (
        f"partition {one.partition} needs offset {one.next_offset}, and its log begins at {one.log_start}: "
        f"{plural(one.lost, 'offset')} with their events {noun(one.lost, 'is', 'are')} deleted and would not be counted"
    )
