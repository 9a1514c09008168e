"""What the notifier keeps: its rows in ClickHouse are the truth about every delivery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from meterfold_schemas.endpoint_changes import EndpointState
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink import notification_tries as tries
from meterfold_sink import notifications
from meterfold_sink.client import Client, connect
from meterfold_sink.migrate import check_schema
from meterfold_sink.notification_tries import EndpointRow, TryRow
from meterfold_sink.notifications import DeliveryKey, DueDelivery, Failures, OpenDelivery
from meterfold_sink.writers import Writer

__all__ = ["ClickHouseStore", "Endpoints", "Store", "Waiting"]

_REQUESTED_WITHIN: Final = timedelta(hours=1)
"""Rounds are numbered by the clock of ClickHouse; one is in the table well within this time."""

Waiting = dict[str, tuple[int, datetime]]
"""channel -> deliveries with a try to come, and the time of the oldest event among them."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints that are not active: endpoint -> its row."""

    rows: Mapping[str, EndpointRow]

    def state(self, endpoint: str) -> EndpointState:
        row = self.rows.get(endpoint)
        return EndpointState.ACTIVE if row is None else EndpointState(row.state)

    @property
    def disabled(self) -> dict[str, str]:
        """endpoint -> why nothing is sent to it."""
        return {
            name: f"the endpoint is disabled: {row.reason}"
            for name, row in self.rows.items()
            if row.state == EndpointState.DISABLED
        }


class Store(Protocol):
    """Used by one thread at a time. Every method raises Retryable or Fatal. A write that raised may be there in part,
    and is repeated as a whole."""

    def check(self) -> None: ...

    def positions(self) -> dict[tuple[str, int], int]: ...

    def known(self, event_ids: Sequence[str]) -> dict[DeliveryKey, datetime]: ...

    def alert_targets(self, alert_ids: Sequence[str]) -> dict[str, set[tuple[str, str]]]: ...

    def write(self, rows: Sequence[TryRow]) -> None: ...

    def write_progress(self, positions: Mapping[tuple[str, int], int]) -> None: ...

    def write_endpoint(self, row: EndpointRow) -> None: ...

    def endpoints(self) -> Endpoints: ...

    def failures(self, endpoint: str) -> Failures: ...

    def open(self, owned: Iterable[tuple[str, int]], kept: datetime, per_target: int) -> list[OpenDelivery]: ...

    def states(self, deliveries: Sequence[OpenDelivery]) -> list[DueDelivery]: ...

    def requests(self) -> dict[int, int]: ...

    def requested(
        self, owned: Iterable[tuple[str, int]], rounds: Sequence[int], per_target: int
    ) -> list[OpenDelivery]: ...

    def waiting(self, owned: Iterable[tuple[str, int]], kept: datetime) -> Waiting: ...

    def close(self) -> None: ...


class ClickHouseStore:
    """Connects when it is first used."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._connected: Client | None = None

    def check(self) -> None:
        """Raises Fatal where tables are missing."""
        check_schema(self._client)

    def positions(self) -> dict[tuple[str, int], int]:
        return notifications.planned_offsets(self._client)

    def known(self, event_ids: Sequence[str]) -> dict[DeliveryKey, datetime]:
        return notifications.known_deliveries(self._client, event_ids)

    def alert_targets(self, alert_ids: Sequence[str]) -> dict[str, set[tuple[str, str]]]:
        return notifications.alert_targets(self._client, alert_ids)

    def write(self, rows: Sequence[TryRow]) -> None:
        tries.write_tries(self._writer, rows)

    def write_progress(self, positions: Mapping[tuple[str, int], int]) -> None:
        tries.write_progress(self._writer, positions)

    def write_endpoint(self, row: EndpointRow) -> None:
        tries.write_endpoint(self._writer, row)

    def endpoints(self) -> Endpoints:
        rows = (EndpointRow(**row) for row in notifications.list_endpoints(self._client))
        return Endpoints({row.endpoint: row for row in rows if row.state != EndpointState.ACTIVE})

    def failures(self, endpoint: str) -> Failures:
        return notifications.endpoint_failures(self._client, endpoint)

    def open(self, owned: Iterable[tuple[str, int]], kept: datetime, per_target: int) -> list[OpenDelivery]:
        return notifications.open_deliveries(self._client, owned, kept, per_target=per_target)

    def states(self, deliveries: Sequence[OpenDelivery]) -> list[DueDelivery]:
        return notifications.delivery_states(self._client, deliveries)

    def requests(self) -> dict[int, int]:
        return notifications.delivery_requests(self._client, _REQUESTED_WITHIN)

    def requested(self, owned: Iterable[tuple[str, int]], rounds: Sequence[int], per_target: int) -> list[OpenDelivery]:
        return notifications.requested_deliveries(self._client, owned, rounds, per_target=per_target)

    def waiting(self, owned: Iterable[tuple[str, int]], kept: datetime) -> Waiting:
        return notifications.count_waiting(self._client, owned, kept)

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    @property
    def _client(self) -> Client:
        if self._connected is None:
            self._connected = connect(self._settings)
        return self._connected

    @property
    def _writer(self) -> Writer:
        return Writer(self._client)
