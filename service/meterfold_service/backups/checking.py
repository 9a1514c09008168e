"""A backup compared with Kafka."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from meterfold_schemas.errors import Fatal
from meterfold_service.backups.results import BackupCheck

if TYPE_CHECKING:
    from meterfold_service.backups.access import Access
    from meterfold_sink.backup_catalogue import BackupRow
    from meterfold_sink.client import Client

__all__ = ["compare"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def compare(access: Access, client: Client, name: str, row: BackupRow | None) -> BackupCheck:
    """Read the progress of a backup, and compare it with the log."""
    from meterfold_processor.kafka.replay import replayable_until, replays
    from meterfold_processor.kafka.topics import check_source
    from meterfold_sink import backup_parts
    from meterfold_sink.fold_state import read_progress, read_rules
    from meterfold_sink.migrate import applied, migrations

    destination, source = access.destination(row), access.clickhouse().database
    with access.scratch(client) as scratch:
        one = (client, destination, name)
        database = scratch.database
        backup_parts.restore(*one, backup_parts.PROGRESS, source, database, ["fold_progress", "schema_migrations"])
        backup_parts.restore(*one, backup_parts.WINDOWS, source, database, ["usage_windows"], structure_only=True)
        backup_parts.restore(*one, backup_parts.REST, source, database, ["fold_settings"])
        progress = read_progress(scratch)
        rules = read_rules(scratch)
        version = max(applied(scratch))
    problems = []
    kafka = access.kafka()
    try:
        check_source(kafka, rules)
    except Fatal as error:
        problems.append(str(error))
    if version > (newest := migrations()[-1].version):
        problems.append(f"its tables are of version {version}, and this version of meterfold knows only {newest}")
    offsets = {p: progress[p].next_offset if p in progress else 0 for p in range(rules.partition_count)}
    found = () if problems else tuple(replays(kafka, offsets, access.now()))
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
