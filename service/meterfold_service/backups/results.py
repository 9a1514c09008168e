"""What the operations on backups answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from meterfold_service.pages import Page
from meterfold_sink.backup_catalogue import BackupRow

if TYPE_CHECKING:
    from meterfold_processor.kafka.replay import Replay
    from meterfold_processor.verify import Finding, Unproven

__all__ = ["BackupCheck", "BackupPage", "BackupProof", "Restored"]


@dataclass(frozen=True, slots=True)
class BackupPage(Page[BackupRow]):
    """Backups, the newest first."""


@dataclass(frozen=True, slots=True)
class BackupProof:
    """What `verify` says about the usage in a restored backup, up to its progress. `findings` is empty if all of it is
    proven. `unproven`: what has expired and cannot be recounted."""

    records: int
    windows: int
    findings: tuple[Finding, ...]
    unproven: tuple[Unproven, ...]


@dataclass(frozen=True, slots=True)
class BackupCheck:
    """A backup compared with Kafka. `restorable`: the log has everything that it needs, until `replayable_until`.

    `schema_version`: the last migration of the restored tables. `base`: the full backup that it adds to, or empty; None
    where the catalogue does not have it. `proof`: only if it was asked for.
    """

    name: str
    destination: str
    base: str | None
    schema_version: int
    restorable: bool
    replayable_until: datetime
    partitions: tuple[Replay, ...]
    problems: tuple[str, ...]
    proof: BackupProof | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """`replaced`: the name that the database with the former tables has now, or None. `partitions`: what the fold will
    read again. `needs_migration`: the tables are older than this version."""

    name: str
    database: str
    replaced: str | None
    schema_version: int
    needs_migration: bool
    partitions: tuple[Replay, ...]
