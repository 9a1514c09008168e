"""`metering.backups`: create, list, check and restore."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.periods import micros
from meterfold_service.backups.errors import BackupExists, CatalogueLost, NoBackup
from meterfold_service.backups.results import BackupCheck, BackupPage, Restored
from meterfold_service.pages import check_page
from meterfold_sink.backup_catalogue import COMPLETE, FAILED, RUNNING

if TYPE_CHECKING:
    from meterfold_processor.kafka.replay import Replay
    from meterfold_service.backups.access import Access
    from meterfold_sink.backup_catalogue import BackupRow
    from meterfold_sink.backup_parts import Destination
    from meterfold_sink.client import Client

__all__ = ["Backups"]

Tell = Callable[[int, int, str], None]


class Backups:
    """The operations on backups. Every one raises Retryable or Fatal, and what it says itself."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def create(self, *, full: bool = False, name: str | None = None, tell: Tell | None = None) -> BackupRow:
        """Write a backup while everything runs. It is full if `full`, if the newest full one is older than the setting
        `full_days`, or if there is none; otherwise it has only what is new since that one. Its row of the catalogue is
        returned. Several at the same time are several backups. Raises BackupExists.
        """
        from meterfold_processor.kafka.replay import replayable_until
        from meterfold_sink import backup_parts
        from meterfold_sink.backup_catalogue import BackupRow, find_backup, newest_full, write_backup

        report = tell or _silent
        destination = self._access.destination()
        started = self._access.now()
        made = name or f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        with self._access.client() as client:
            with self._access.catalogue():
                newest = newest_full(client, str(destination))
                if name is not None and find_backup(client, name) is not None:
                    raise BackupExists(name)
            base = None if full or newest is None or self._is_stale(newest, started) else newest
            # Before the first part: what the backup has is at or above it, so this errs on the safe side.
            found = self._replays(client)
            row = BackupRow(
                name=made,
                destination=str(destination),
                base="" if base is None else base.name,
                status=RUNNING,
                started_at=started,
                finished_at=None,
                next_offsets={one.partition: one.next_offset for one in found},
                needed_since={one.partition: micros(one.needed_since) for one in found},
                replayable_until=replayable_until(found),
                total_bytes=0,
            )
            destination.path(made, backup_parts.PROGRESS)  # refuses an invalid name before anything is written
            write_backup(client, row)
            try:
                total = self._write_parts(client, destination, row, report)
            except MeterfoldError as error:
                failed = replace(row, status=FAILED, finished_at=self._access.now(), error=str(error))
                write_backup(client, failed)
                raise
            done = replace(row, status=COMPLETE, finished_at=self._access.now(), total_bytes=total)
            write_backup(client, done)
        return done

    def list(self, *, limit: int = 100, offset: int = 0) -> BackupPage:
        """The catalogue, the newest first. Raises CatalogueLost, and InvalidUsage for a wrong page."""
        from meterfold_sink.backup_catalogue import list_backups

        check_page(limit, offset)
        with self._access.client() as client, self._access.catalogue():
            rows, total = list_backups(client, limit=limit, offset=offset)
        return BackupPage(total, tuple(rows))

    def check(self, name: str | None = None, *, restore: bool = False, tell: Tell | None = None) -> BackupCheck:
        """Compare a backup, by default the newest complete one, with Kafka: would the log repair it, and until when?

        The progress is read from the backup itself, so this works without a catalogue. With `restore` the backup is
        restored into a database for a moment, and its usage is proven up to its progress, without workers.

        Raises NoBackup, CatalogueLost and BackupNotFound.
        """
        from meterfold_service.backups.checking import compare
        from meterfold_service.backups.drill import prove

        row = None
        try:
            row = self._access.row(name)
        except CatalogueLost:
            if name is None:
                raise
        if row is None and name is None:
            raise NoBackup
        with self._access.admin_client() as client:
            found = compare(self._access, client, name or (row.name if row else ""), row)
            if not restore or not found.restorable:
                return found
            return replace(found, proof=prove(self._access, client, found.name, tell or _silent))

    def restore(
        self, name: str, *, into: str | None = None, replace_database: bool = False, tell: Tell | None = None
    ) -> Restored:
        """Restore a backup into the database of the settings, or `into` another. Workers must be stopped; when they
        start again, the fold and the mirror read the rest from Kafka.

        A database that has tables is refused, or with `replace_database` renamed first. Raises BackupTooOld,
        WorkersRunning, DatabaseNotEmpty and BackupNotFound, and then nothing was changed; RestoreIncomplete.
        """
        from meterfold_service.backups.restoring import restore

        return restore(self._access, name, into, replace_database=replace_database, report=tell or _silent)

    def _write_parts(self, client: Client, destination: Destination, row: BackupRow, report: Tell) -> int:
        from meterfold_sink import backup_parts

        total = 0
        for number, part in enumerate(backup_parts.PARTS):
            report(number, len(backup_parts.PARTS), part)
            tables = backup_parts.tables_of(client, client.database)
            first = [table for table in tables if table in backup_parts.VOUCHING]
            rest = [table for table in tables if table not in (*first, "usage_windows")]
            chosen = {backup_parts.PROGRESS: first, backup_parts.WINDOWS: ["usage_windows"]}.get(part, rest)
            total += backup_parts.back_up(client, destination, row.name, part, chosen, row.base or None)
        report(len(backup_parts.PARTS), len(backup_parts.PARTS), "done")
        return total

    def _replays(self, client: Client) -> tuple[Replay, ...]:
        from meterfold_processor.kafka.replay import replays
        from meterfold_sink.fold_state import read_progress, read_rules

        progress, count = read_progress(client), read_rules(client).partition_count
        offsets = {p: progress[p].next_offset if p in progress else 0 for p in range(count)}
        return tuple(replays(self._access.kafka(), offsets, self._access.now()))

    def _is_stale(self, row: BackupRow, now: datetime) -> bool:
        return now - row.started_at >= timedelta(days=self._access.settings().full_days)


def _silent(done: int, total: int, text: str) -> None:
    pass
