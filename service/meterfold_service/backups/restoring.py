"""A backup restored: checked first, written in the order of the fold, and never over something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from meterfold_schemas.errors import Fatal, MeterfoldError
from meterfold_service.backups.checking import compare
from meterfold_service.backups.errors import (
    BackupTooOld,
    CatalogueLost,
    DatabaseNotEmpty,
    RestoreIncomplete,
)
from meterfold_service.backups.results import BackupCheck, Restored
from meterfold_service.errors import WorkersRunning
from meterfold_sink.backup_catalogue import COMPLETE, RUNNING

if TYPE_CHECKING:
    from meterfold_service.backups.access import Access
    from meterfold_sink.backup_catalogue import BackupRow
    from meterfold_sink.backup_parts import Destination
    from meterfold_sink.client import Client

__all__ = ["restore"]

Tell = Callable[[int, int, str], None]


def restore(access: Access, name: str, into: str | None, *, replace_database: bool, report: Tell) -> Restored:
    """Restore a backup into the database of the settings, or `into` another. Workers must be stopped; when they
    start again, the fold and the mirror read the rest from Kafka.

    A database that has tables is refused, or with `replace_database` renamed first. Raises BackupTooOld,
    WorkersRunning, DatabaseNotEmpty and BackupNotFound, and then nothing was changed; RestoreIncomplete.
    """
    from meterfold_sink.migrate import migrations

    settings = access.clickhouse()
    target = into or settings.database
    rows: list[BackupRow] = []
    with suppress(CatalogueLost):
        rows = access.rows()
    row = next((one for one in rows if one.name == name), None)
    destination = access.destination(row)
    with access.admin_client() as client:
        if into is None:
            _require_no_workers(access)
        checked = compare(access, client, name, row)
        lost = [one for one in checked.partitions if one.lost or one.missing]
        if lost:
            raise BackupTooOld(name, lost)
        if checked.problems:
            raise Fatal(f"backup {name!r} does not fit: {'; '.join(checked.problems)}. Nothing was changed")
        replaced = _make_room(access, client, target, replace_database)
        try:
            _restore_parts(access, client, destination, checked, target, rows, report)
        except MeterfoldError as error:
            raise RestoreIncomplete(name, target, error) from error
    needs = checked.schema_version < migrations()[-1].version
    return Restored(name, target, replaced, checked.schema_version, needs, checked.partitions)


def _restore_parts(
    access: Access,
    client: Client,
    destination: Destination,
    checked: BackupCheck,
    target: str,
    rows: Sequence[BackupRow],
    report: Tell,
) -> None:
    from meterfold_sink import backup_parts

    source = access.clickhouse().database
    backup_parts.create_database(client, target)
    progress = ["fold_progress"]
    steps: tuple[tuple[str, list[str]], ...] = (
        (backup_parts.REST, []),
        (backup_parts.WINDOWS, []),
        (backup_parts.PROGRESS, [table for table in backup_parts.VOUCHING if table not in progress]),
    )
    for number, (part, tables) in enumerate(steps):
        report(number, len(steps) + 1, part)
        backup_parts.restore(client, destination, checked.name, part, source, target, tables)
    last = (client, destination, checked.name, backup_parts.PROGRESS, source, target, progress)
    backup_parts.restore(*last, structure_only=True)  # views read it
    with access.client(target) as restored:
        backup_parts.forget_definitions(restored, _definition_topics(access))
        backup_parts.restore_views(restored, checked.schema_version)
        _keep_rows(access, restored, checked, rows)
    report(len(steps), len(steps) + 1, "fold_progress")
    backup_parts.restore(*last)


def _require_no_workers(access: Access) -> None:
    from meterfold_processor.kafka.groups import members

    found = [(group, len(members(access.kafka(), group))) for group in access.groups()]
    running = [(group, count) for group, count in found if count]
    if running:
        raise WorkersRunning(running)


def _make_room(access: Access, client: Client, target: str, replace_database: bool) -> str | None:
    """Rename a database that has tables; its new name, or None."""
    from meterfold_sink import backup_parts

    tables = backup_parts.tables_of(client, target)
    if not tables:
        return None
    if not replace_database:
        raise DatabaseNotEmpty(target, len(tables))
    renamed = f"{target}_replaced_{access.now():%Y%m%dT%H%M%S}"
    backup_parts.rename_database(client, target, renamed)
    return renamed


def _keep_rows(access: Access, client: Client, checked: BackupCheck, rows: Sequence[BackupRow]) -> None:
    """Keep the catalogue as it was, with the backups since this one; without it, complete the backup's own row, which
    it has without an end."""
    from meterfold_sink.backup_catalogue import find_backup, write_backup

    for row in rows:
        write_backup(client, row)
    own = find_backup(client, checked.name)
    if own is not None and own.status == RUNNING:
        write_backup(client, replace(own, status=COMPLETE, finished_at=access.now()))


def _definition_topics(access: Access) -> tuple[str, ...]:
    from meterfold_schemas.topics import Topics

    topics = Topics(access.kafka().topic_prefix)
    return topics.metric_defined, topics.threshold_defined
