"""What the doors for the clients of other products share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterfold_service.ingest.known_metrics import KnownMetrics
    from meterfold_service.ingest.operations import Events
    from meterfold_sink.pool import ClientPool

__all__ = ["Door"]


class Door:
    """For any thread. Events are translated by the definitions in `known`."""

    def __init__(
        self,
        clients: ClientPool,
        known: KnownMetrics,
        events: Callable[[], Events],
        now: Callable[[], datetime],
    ) -> None:
        self._clients = clients
        self._known = known
        self._events = events
        self._now = now

    @property
    def may_block(self) -> bool:
        """Whether `begin` may wait for ClickHouse, and belongs into a thread."""
        return not self._known.is_fresh
