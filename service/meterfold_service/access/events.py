"""Events, as a principal may send them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from meterfold_service.ingest.documents import Document
    from meterfold_service.ingest.operations import Pending

__all__ = ["ScopedEvents"]


class ScopedEvents(Room):
    """As Events. A principal of one organization sends its events only."""

    @property
    def is_doubtful(self) -> bool:
        return self._metering.events.is_doubtful

    def check(self) -> None:
        self._need(Scope.INGEST)
        self._metering.events.check()

    def begin(self, documents: Iterable[Document], on_end: Callable[[], None]) -> Pending:
        self._need(Scope.INGEST)
        return self._metering.events.begin(documents, self._own, on_end)
