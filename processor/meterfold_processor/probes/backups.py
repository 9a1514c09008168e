"""A look at the newest backup from time to time, for the metrics that say how old it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from meterfold_processor.fold.status import FoldStatus
from meterfold_schemas.errors import Fatal
from meterfold_sink.backup_catalogue import newest_backup
from meterfold_sink.client import Client

__all__ = ["BackupWatch"]

_LOG = logging.getLogger("meterfold.health")

_EVERY_SECONDS: Final = 60.0


class BackupWatch:
    """Keeps `status.backup` up to date; None while there is no complete backup."""

    def __init__(self, status: FoldStatus, clock: Callable[[], float] = time.monotonic) -> None:
        self._status = status
        self._clock = clock
        self._due = clock()

    def look(self, client: Client) -> None:
        """Read the catalogue, at most once a minute. Raises Retryable; without the right to read it, logs that."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + _EVERY_SECONDS
        try:
            newest = newest_backup(client)
        except Fatal as error:
            _LOG.warning("the metrics of backups are missing: %s", error)
            newest = None
        self._status.backup = (
            None if newest is None else (newest.started_at.timestamp(), newest.replayable_until.timestamp())
        )
