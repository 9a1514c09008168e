"""The servers and settings that the operations on backups use, and what they read of the catalogue."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from meterfold_schemas.errors import Fatal, MeterfoldError
from meterfold_service.backups.errors import CatalogueLost

if TYPE_CHECKING:
    from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
    from meterfold_service.backups.settings import BackupSettings
    from meterfold_sink.backup_catalogue import BackupRow
    from meterfold_sink.backup_parts import Destination
    from meterfold_sink.client import Client

__all__ = ["Access"]

_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Access:
    """Settings are read when they are needed. `groups`: the names of all consumer groups of the workers."""

    clickhouse: Callable[[], ClickHouseSettings]
    kafka: Callable[[], KafkaSettings]
    settings: Callable[[], BackupSettings]
    groups: Callable[[], tuple[str, ...]]
    now: Callable[[], datetime]

    def row(self, name: str | None) -> BackupRow | None:
        """The row of a backup, or of the newest complete one. Raises CatalogueLost."""
        from meterfold_sink.backup_catalogue import find_backup, newest_backup

        with self.client() as client, self.catalogue():
            return newest_backup(client) if name is None else find_backup(client, name)

    def rows(self) -> list[BackupRow]:
        """The newest rows of the catalogue. Raises CatalogueLost."""
        from meterfold_sink.backup_catalogue import list_backups

        with self.client() as client, self.catalogue():
            return list_backups(client, limit=_ROWS)[0]

    def destination(self, row: BackupRow | None = None) -> Destination:
        """Where a backup is, or where the next one goes."""
        from meterfold_sink.backup_parts import Destination

        return Destination.parse(self.settings().destination if row is None else row.destination)

    @contextmanager
    def client(self, database: str | None = None) -> Iterator[Client]:
        """A connection to the database of the settings, or another. Raises CatalogueLost if it does not exist."""
        from meterfold_sink.client import connect

        settings = self.clickhouse()
        if database is not None:
            settings = settings.model_copy(update={"database": database})
        try:
            client = connect(settings)
        except Fatal as error:
            raise self._lost(error) from error
        with client:
            yield client

    def admin_client(self) -> Client:
        """In a database that is always there."""
        from meterfold_sink.client import connect

        return connect(self.clickhouse().model_copy(update={"database": "default"}))

    @contextmanager
    def scratch(self, client: Client) -> Iterator[Client]:
        """A database for a moment."""
        from meterfold_sink import backup_parts

        name = f"{self.clickhouse().database}_check_{secrets.token_hex(4)}"
        backup_parts.create_database(client, name)
        try:
            with self.client(name) as scratch:
                yield scratch
        finally:
            backup_parts.drop_database(client, name)

    @contextmanager
    def catalogue(self) -> Iterator[None]:
        """Raises CatalogueLost where the block finds no table."""
        try:
            yield
        except Fatal as error:
            raise self._lost(error) from error

    def _lost(self, error: Fatal) -> MeterfoldError:
        from meterfold_sink.errors import MISSING_DATABASE, MISSING_TABLE, code_of

        if code_of(error) in (MISSING_DATABASE, MISSING_TABLE):
            return CatalogueLost(self.clickhouse().database, str(self.destination()))
        return error
