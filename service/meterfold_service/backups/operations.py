"""`metering.backups`: create, list, check and restore."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from meterfold_schemas.errors import Fatal, MeterfoldError
from meterfold_schemas.periods import micros
from meterfold_service.backups.errors import (
    BackupExists,
    BackupTooOld,
    CatalogueLost,
    DatabaseNotEmpty,
    NoBackup,
)
from meterfold_service.backups.results import BackupCheck, BackupPage, Restored
from meterfold_service.errors import WorkersRunning
from meterfold_service.pages import check_page
from meterfold_sink.backup_catalogue import COMPLETE, FAILED, RUNNING

if TYPE_CHECKING:
    from meterfold_processor.kafka.replay import Replay
    from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
    from meterfold_service.backups.settings import BackupSettings
    from meterfold_sink.backup_catalogue import BackupRow
    from meterfold_sink.backup_parts import Destination
    from meterfold_sink.client import Client

__all__ = ["Backups"]

Tell = Callable[[int, int, str], None]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Backups:
    """The operations on backups. Every one raises Retryable or Fatal, and what it says itself."""

    def __init__(
        self,
        clickhouse: Callable[[], ClickHouseSettings],
        kafka: Callable[[], KafkaSettings],
        settings: Callable[[], BackupSettings],
        groups: Callable[[], tuple[str, ...]],
        now: Callable[[], datetime],
    ) -> None:
        """`groups`: the names of all consumer groups of the workers."""
        self._clickhouse_settings = clickhouse
        self._kafka = kafka
        self._settings = settings
        self._groups = groups
        self._now = now

    def create(self, *, full: bool = False, name: str | None = None, tell: Tell | None = None) -> BackupRow:
        """Write a backup while everything runs. It is full if `full`, if the newest full one is older than the setting
        `full_days`, or if there is none; otherwise it has only what is new since that one. Its row of the catalogue is
        returned. Several at the same time are several backups. Raises BackupExists.
        """
        from meterfold_processor.kafka.replay import replayable_until
        from meterfold_sink import backup_parts
        from meterfold_sink.backup_catalogue import BackupRow, find_backup, newest_full, write_backup

        report = tell or _silent
        destination = self._destination()
        started = self._now()
        made = name or f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        with self._client() as client:
            with self._catalogue(client):
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
                failed = replace(row, status=FAILED, finished_at=self._now(), error=str(error))
                write_backup(client, failed)
                raise
            done = replace(row, status=COMPLETE, finished_at=self._now(), total_bytes=total)
            write_backup(client, done)
        return done

    def list(self, *, limit: int = 100, offset: int = 0) -> BackupPage:
        """The catalogue, the newest first. Raises CatalogueLost, and InvalidUsage for a wrong page."""
        from meterfold_sink.backup_catalogue import list_backups

        check_page(limit, offset)
        with self._client() as client, self._catalogue(client):
            rows, total = list_backups(client, limit=limit, offset=offset)
        return BackupPage(total, tuple(rows))

    def check(self, name: str | None = None) -> BackupCheck:
        """Compare a backup, by default the newest complete one, with Kafka: would the log repair it, and until when?

        The progress is read from the backup itself, so this works without a catalogue. Raises NoBackup,
        CatalogueLost and BackupNotFound.
        """
        row = None
        try:
            row = self._row(name)
        except CatalogueLost:
            if name is None:
                raise
        if row is None and name is None:
            raise NoBackup
        with self._admin_client() as client:
            return self._check(client, name or (row.name if row else ""), row)

    def restore(
        self, name: str, *, into: str | None = None, replace_database: bool = False, tell: Tell | None = None
    ) -> Restored:
        """Restore a backup into the database of the settings, or `into` another. Workers must be stopped; when they
        start again, the fold and the mirror read the rest from Kafka.

        A database that has tables is refused, or with `replace_database` renamed first. Raises BackupTooOld,
        WorkersRunning, DatabaseNotEmpty and BackupNotFound, and then nothing was changed.
        """
        from meterfold_sink import backup_parts
        from meterfold_sink.migrate import migrations

        report = tell or _silent
        destination, settings = self._destination(), self._clickhouse_settings()
        target = into or settings.database
        row = None
        with suppress(CatalogueLost):
            row = self._row(name)
        with self._admin_client() as client:
            if into is None:
                self._require_no_workers()
            checked = self._check(client, name, row)
            lost = [one for one in checked.partitions if one.lost or one.missing]
            if lost:
                raise BackupTooOld(name, lost)
            if checked.problems:
                raise Fatal(f"backup {name!r} does not fit: {'; '.join(checked.problems)}. Nothing was changed")
            replaced = self._make_room(client, target, replace_database)
            backup_parts.create_database(client, target)
            steps = (
                ("records", backup_parts.REST, ()),
                ("windows", backup_parts.WINDOWS, ()),
                ("progress", backup_parts.PROGRESS, [t for t in backup_parts.VOUCHING if t != "fold_progress"]),
            )
            for number, (what, part, tables) in enumerate(steps):
                report(number, len(steps) + 1, what)
                backup_parts.restore(client, destination, name, part, settings.database, target, tables)
            progress = (client, destination, name, backup_parts.PROGRESS, settings.database, target, ["fold_progress"])
            backup_parts.restore(*progress, structure_only=True)  # views read it
            with self._client(target) as restored:
                backup_parts.forget_definitions(restored, self._definition_topics())
                backup_parts.restore_views(restored, checked.schema_version)
                self._keep_row(restored, checked, row)
            report(len(steps), len(steps) + 1, "fold_progress")
            backup_parts.restore(*progress)
        needs = checked.schema_version < migrations()[-1].version
        return Restored(name, target, replaced, checked.schema_version, needs, checked.partitions)

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

    def _check(self, client: Client, name: str, row: BackupRow | None) -> BackupCheck:
        from meterfold_processor.kafka.replay import replayable_until, replays
        from meterfold_processor.kafka.topics import check_source
        from meterfold_sink import backup_parts
        from meterfold_sink.fold_state import read_progress, read_rules
        from meterfold_sink.migrate import applied, migrations

        destination, source = self._destination(row), self._clickhouse_settings().database
        with self._scratch(client) as scratch:
            one = (client, destination, name)
            database = scratch.database
            backup_parts.restore(*one, backup_parts.PROGRESS, source, database, ["fold_progress", "schema_migrations"])
            backup_parts.restore(*one, backup_parts.WINDOWS, source, database, ["usage_windows"], structure_only=True)
            backup_parts.restore(*one, backup_parts.REST, source, database, ["fold_settings"])
            progress = read_progress(scratch)
            rules = read_rules(scratch)
            version = max(applied(scratch))
        problems = []
        kafka = self._kafka()
        try:
            check_source(kafka, rules)
        except Fatal as error:
            problems.append(str(error))
        if version > (newest := migrations()[-1].version):
            problems.append(f"its tables are of version {version}, and this version of meterfold knows only {newest}")
        offsets = {p: progress[p].next_offset if p in progress else 0 for p in range(rules.partition_count)}
        found = () if problems else tuple(replays(kafka, offsets, self._now()))
        fits = not problems and not any(one.lost or one.missing for one in found)
        return BackupCheck(
            name=name,
            destination=str(destination),
            base=None if row is None else row.base,
            schema_version=version,
            restorable=fits,
            replayable_until=replayable_until(found) if fits else _EPOCH,
            partitions=found,
            problems=tuple(problems),
        )

    def _replays(self, client: Client) -> tuple[Replay, ...]:
        from meterfold_processor.kafka.replay import replays
        from meterfold_sink.fold_state import read_progress, read_rules

        progress, count = read_progress(client), read_rules(client).partition_count
        offsets = {p: progress[p].next_offset if p in progress else 0 for p in range(count)}
        return tuple(replays(self._kafka(), offsets, self._now()))

    def _require_no_workers(self) -> None:
        from meterfold_processor.kafka.groups import members

        found = [(group, len(members(self._kafka(), group))) for group in self._groups()]
        running = [(group, count) for group, count in found if count]
        if running:
            raise WorkersRunning(running)

    def _make_room(self, client: Client, target: str, replace_database: bool) -> str | None:
        """Rename a database that has tables; its new name, or None."""
        from meterfold_sink import backup_parts

        tables = backup_parts.tables_of(client, target)
        if not tables:
            return None
        if not replace_database:
            raise DatabaseNotEmpty(target, len(tables))
        renamed = f"{target}_replaced_{self._now():%Y%m%dT%H%M%S}"
        backup_parts.rename_database(client, target, renamed)
        return renamed

    def _keep_row(self, client: Client, checked: BackupCheck, row: BackupRow | None) -> None:
        """Complete the backup's own row, which it has without an end."""
        from meterfold_sink.backup_catalogue import find_backup, write_backup

        own = row or find_backup(client, checked.name)
        if own is not None and own.status == RUNNING:
            own = replace(own, status=COMPLETE, finished_at=self._now())
        if own is not None:
            write_backup(client, own)

    def _definition_topics(self) -> tuple[str, ...]:
        from meterfold_schemas.topics import Topics

        topics = Topics(self._kafka().topic_prefix)
        return topics.metric_defined, topics.threshold_defined

    def _row(self, name: str | None) -> BackupRow | None:
        from meterfold_sink.backup_catalogue import find_backup, newest_backup

        with self._client() as client, self._catalogue(client):
            return newest_backup(client) if name is None else find_backup(client, name)

    def _is_stale(self, row: BackupRow, now: datetime) -> bool:
        return now - row.started_at >= timedelta(days=self._settings().full_days)

    def _destination(self, row: BackupRow | None = None) -> Destination:
        from meterfold_sink.backup_parts import Destination

        return Destination.parse(self._settings().destination if row is None else row.destination)

    @contextmanager
    def _client(self, database: str | None = None) -> Iterator[Client]:
        from meterfold_sink.client import connect

        settings = self._clickhouse_settings()
        if database is not None:
            settings = settings.model_copy(update={"database": database})
        try:
            client = connect(settings)
        except Fatal as error:
            raise self._lost(error) from error
        with client:
            yield client

    def _admin_client(self) -> Client:
        """In a database that is always there."""
        from meterfold_sink.client import connect

        return connect(self._clickhouse_settings().model_copy(update={"database": "default"}))

    @contextmanager
    def _scratch(self, client: Client) -> Iterator[Client]:
        """A database for a moment."""
        from meterfold_sink import backup_parts

        name = f"{self._clickhouse_settings().database}_check_{secrets.token_hex(4)}"
        backup_parts.create_database(client, name)
        try:
            with self._client(name) as scratch:
                yield scratch
        finally:
            backup_parts.drop_database(client, name)

    @contextmanager
    def _catalogue(self, client: Client) -> Iterator[None]:
        try:
            yield
        except Fatal as error:
            raise self._lost(error) from error

    def _lost(self, error: Fatal) -> MeterfoldError:
        from meterfold_sink.errors import MISSING_DATABASE, MISSING_TABLE, code_of

        if code_of(error) in (MISSING_DATABASE, MISSING_TABLE):
            return CatalogueLost(self._clickhouse_settings().database, str(self._destination()))
        return error


def _silent(done: int, total: int, text: str) -> None:
    pass
