"""A restore for practice: into a database for a moment, proven as it is, and dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from meterfold_service.backups.restoring import restore
from meterfold_service.backups.results import BackupProof

if TYPE_CHECKING:
    from meterfold_service.backups.access import Access
    from meterfold_sink.client import Client

__all__ = ["prove"]

_USAGE: Final = frozenset({"progress", "conservation", "identities", "windows", "contents", "closings"})
"""The checks of `verify` that need no worker. What a checker has emitted since is ahead of an older state, and
definitions are not there until a mirror has copied them."""


def prove(access: Access, client: Client, name: str, report: Callable[[int, int, str], None]) -> BackupProof:
    """Restore a backup beside the database, and prove every record and window up to its progress."""
    from meterfold_processor.verify import verify

    with access.scratch(client) as scratch:
        restore(access, name, scratch.database, replace_database=False, report=report)
        settings = access.clickhouse().model_copy(update={"database": scratch.database})
        found = verify(access.kafka(), settings, contents=True, tell=report)
    return BackupProof(
        records=sum(one.counted for one in found.partitions),
        windows=sum(one.windows for one in found.partitions),
        findings=tuple(one for one in found.findings if one.check in _USAGE),
        unproven=tuple(one for one in found.unproven if one.check in _USAGE and not one.passing),
    )
