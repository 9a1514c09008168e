"""`metering.usage`: usage.get and usage.getSummary."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterfold_sink.pool import ClientPool

__all__ = ["Usage"]


class Usage:
    """The operations on usage; for any thread."""

    def __init__(self, clients: ClientPool, now: Callable[[], datetime]) -> None:
        self._clients = clients
        self._now = now
