"""The definitions of every organization, read again every few seconds, for events that are translated by them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from meterfold_schemas.errors import Retryable
from meterfold_service.pages import MAX_LIMIT

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_sink.client import Client
    from meterfold_sink.pool import ClientPool

__all__ = ["FRESH_SECONDS", "KnownMetrics"]

_LOG = logging.getLogger("meterfold.events")

FRESH_SECONDS: Final = 2.0
"""A definition that another process has changed applies after this time at the latest."""


class KnownMetrics:
    """For any thread. Without ClickHouse the definitions that are known stay: none can change meanwhile."""

    def __init__(self, clients: ClientPool, clock: Callable[[], float]) -> None:
        self._clients = clients
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, MetricDefinition]] | None = None
        self._visible: dict[str, Mapping[str, MetricDefinition]] = {}
        self._fresh_until = -1.0

    @property
    def is_fresh(self) -> bool:
        """Whether `of` answers without a query."""
        return self._clock() < self._fresh_until

    def forget(self) -> None:
        """The next question is one to ClickHouse."""
        self._fresh_until = -1.0

    def of(self, org_id: str) -> Mapping[str, MetricDefinition]:
        """The metrics that an organization sees, by key: the same object until they are read again. Raises Retryable
        where they have never been read."""
        if not self.is_fresh:
            self._read()
        known, visible = self._known, self._visible
        assert known is not None
        found = visible.get(org_id)
        if found is None:
            found = visible[org_id] = {**known.get("", {}), **known.get(org_id, {})}
        return found

    def _read(self) -> None:
        with self._lock:
            if self.is_fresh:
                return
            try:
                with self._clients.client() as client:
                    self._known, self._visible = _all(client), {}
            except Retryable as error:
                if self._known is None:
                    raise
                _LOG.warning("the metrics cannot be read again; those that are known stay: %s", error)
            self._fresh_until = self._clock() + FRESH_SECONDS


def _all(client: Client) -> dict[str, dict[str, MetricDefinition]]:
    from meterfold_schemas.definitions import MetricDefinition
    from meterfold_sink.definitions import list_metrics

    found: dict[str, dict[str, MetricDefinition]] = {}
    after = None
    while True:
        page = list_metrics(client, {}, limit=MAX_LIMIT, after=after)
        for row in page.rows:
            definition = MetricDefinition(**row)
            found.setdefault(definition.org_id, {})[definition.key] = definition
        after = page.end
        if after is None:
            return found
