"""`Metering`: the operations of one installation."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings, load_settings
from meterfold_schemas.settings_sources import Sources
from meterfold_sink.client import Client, connect
from meterfold_sink.pool import ClientPool
from meterfold_sink.server import ping, reach
from meterfold_sink.small import CONNECT_SECONDS

if TYPE_CHECKING:
    from pydantic import SecretStr

    from meterfold_processor.verify.report import Tell, VerifyReport
    from meterfold_service.alerts.action_log import ActionLog
    from meterfold_service.alerts.operations import Alerts
    from meterfold_service.backups.operations import Backups
    from meterfold_service.definition_log import DefinitionLog
    from meterfold_service.ingest.known_metrics import KnownMetrics
    from meterfold_service.ingest.operations import Events
    from meterfold_service.lago.operations import Lago
    from meterfold_service.limits.operations import Limits
    from meterfold_service.metrics.operations import Metrics
    from meterfold_service.notify.operations import Notifications
    from meterfold_service.openmeter.operations import OpenMeter
    from meterfold_service.periods.operations import Periods
    from meterfold_service.periods.results import PeriodClosing
    from meterfold_service.proofs.operations import Proofs
    from meterfold_service.rejected.operations import Rejected
    from meterfold_service.settings.operations import StoredSettings
    from meterfold_service.status.look import Inspector
    from meterfold_service.status.operations import Status
    from meterfold_service.thresholds.operations import Thresholds
    from meterfold_service.tokens.operations import Tokens
    from meterfold_service.usage.operations import Usage
    from meterfold_sink.rules import FoldRules

__all__ = ["Metering"]

_RECOUNT_SECONDS: Final = 4 * 3600
_PING_SECONDS: Final = 10
_REACH_SECONDS: Final = 1.0


class Metering:
    """Define metrics and thresholds, and read usage.

        with Metering() as metering:
            metering.metrics.define(key="api.calls", name="API calls", unit="calls")
            metering.usage.get_summary("api.calls", period="monthly", start=start)

    Settings: `kafka` and `clickhouse`, else METERFOLD_* variables, else the file `config` (see docs/settings.md). They
    are read when the first operation needs them, so a host that only reads usage needs no Kafka.

    One per process is enough; every method may be called from any thread, and waits for its servers. In asyncio, call
    it with `asyncio.to_thread`, which leaves the loop free: `await asyncio.to_thread(metering.metrics.get,
    "api.calls")`.

    `wait_seconds`: how long an operation that changes a definition waits until ClickHouse shows it, and one that reads
    usage until a delivery is folded, and one that closes a period until everything is.

    `call_seconds`: how long a server may take to accept a connection, and Kafka to answer a call, before an operation
    raises Retryable; by default 10 to 15 seconds, as a command waits.
    """

    def __init__(
        self,
        *,
        kafka: KafkaSettings | None = None,
        clickhouse: ClickHouseSettings | None = None,
        config: Path | str | None = None,
        sources: Sources | None = None,
        wait_seconds: float = 30.0,
        call_seconds: float | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Opens no connection."""
        self._kafka = kafka
        self._clickhouse = clickhouse
        self._config = config
        self._given_sources = sources
        self._wait_seconds = wait_seconds
        self._call_seconds = call_seconds
        self._pinging: Client | None = None
        self.clients = self._clients = ClientPool(self._connect)
        # A recount of millions of windows is one statement, whose answer is awaited for longer.
        self._recounting = ClientPool(lambda: self._connect(_RECOUNT_SECONDS))
        self._lock = Lock()
        self._definition_log: DefinitionLog | None = None
        self._action_log: ActionLog | None = None
        self._events: Events | None = None
        self._now = now

    # Each imports what it needs with its first use: a command uses one of them.

    @cached_property
    def metrics(self) -> Metrics:
        """metric.define, update, delete, get, list, and what each change would do."""
        from meterfold_service.metrics.operations import Metrics

        return Metrics(self._log, self._clients, self._now)

    @cached_property
    def thresholds(self) -> Thresholds:
        """threshold.create, update, delete, get, list, and what each change would do."""
        from meterfold_service.thresholds.operations import Thresholds

        return Thresholds(self._log, self._clients, self._now)

    @cached_property
    def alerts(self) -> Alerts:
        """alert.list, get, acknowledge, resolve."""
        from meterfold_service.alerts.operations import Alerts

        return Alerts(self._actions, self._clients, self._now)

    @cached_property
    def usage(self) -> Usage:
        """usage.get, getSummary, export."""
        from meterfold_service.usage.operations import Usage

        return Usage(self._clients, self._now, self._wait_seconds, self._kafka_settings)

    @property
    def events(self) -> Events:
        """usage.record and usage.recordBatch of events that arrive over the network. Applications use the SDK."""
        from meterfold_service.ingest.operations import Events
        from meterfold_service.ingest.settings import sdk_settings

        with self._lock:
            if self._events is None:
                self._events = Events(self._kafka_settings, lambda: sdk_settings(self._sources), self._rules)
            return self._events

    @cached_property
    def limits(self) -> Limits:
        """What is blocked or near its limit: get."""
        from meterfold_service.limits.operations import Limits

        return Limits(self._kafka_settings, self._now)

    @cached_property
    def openmeter(self) -> OpenMeter:
        """OpenMeter's meters, events and queries."""
        from meterfold_service.openmeter.operations import OpenMeter

        return OpenMeter(self._clients, self._known_metrics, lambda: self.metrics, lambda: self.events, self._now)

    @cached_property
    def lago(self) -> Lago:
        """Lago's events and current usage."""
        from meterfold_service.lago.operations import Lago

        return Lago(self._clients, self._known_metrics, lambda: self.events, self._now)

    @cached_property
    def periods(self) -> Periods:
        """aggregate, which closes a period, and what was closed: close, close_due, due, list, get, adjustments."""
        from meterfold_service.periods.operations import Periods

        return Periods(self._recounting, self._kafka_settings, self._now, self._wait_seconds)

    @cached_property
    def backups(self) -> Backups:
        """Backups of ClickHouse: create, list, check, restore."""
        from meterfold_service.backups.access import Access
        from meterfold_service.backups.operations import Backups
        from meterfold_service.backups.settings import BackupSettings

        return Backups(
            Access(
                self._clickhouse_settings,
                self._kafka_settings,
                lambda: load_settings(BackupSettings, "backup", sources=self._sources),
                self._worker_groups,
                self._now,
            )
        )

    @cached_property
    def rejected(self) -> Rejected:
        """Rejected messages: list, count, get, redrive, redrive_all."""
        from meterfold_service.rejected.operations import Rejected

        return Rejected(self._clients, self._kafka_settings, self._now, self._wait_seconds)

    @cached_property
    def settings(self) -> StoredSettings:
        """The stored settings: show, change."""
        from meterfold_service.settings.operations import StoredSettings

        return StoredSettings(self._clients, self._kafka_settings, self._worker_groups)

    @cached_property
    def notifications(self) -> Notifications:
        """What became of notifications: list, tries, redeliver, test, endpoints, enable."""
        from meterfold_service.notify.operations import Notifications

        return Notifications(self._clients, self._kafka_settings, self._now, self._wait_seconds)

    @cached_property
    def tokens(self) -> Tokens:
        """Tokens of the HTTP API: create, list, revoke."""
        from meterfold_service.http.settings import HttpSettings
        from meterfold_service.tokens.operations import Tokens

        @cache
        def keys() -> tuple[SecretStr, ...]:
            return load_settings(HttpSettings, "http", sources=self._sources).token_keys

        return Tokens(self._clients, keys, self._now)

    @cached_property
    def status(self) -> Status:
        """How the installation is: look, totals."""
        from meterfold_service.status.operations import Status

        def inspector() -> Inspector:
            from meterfold_service.status.look import Inspector

            return Inspector(self._sources, self._kafka_settings(), self._clickhouse_settings())

        return Status(self._clients, inspector, self._now)

    @cached_property
    def proofs(self) -> Proofs:
        """Verifications: start, list, get."""
        from meterfold_service.proofs.operations import Proofs

        def verify(tell: Tell) -> VerifyReport:
            from meterfold_processor.verify import verify
            from meterfold_service.status.groups import group_names

            kafka = self._kafka_settings()
            _, checker_group = group_names(self._sources, kafka)
            return verify(
                kafka,
                self._clickhouse_settings(),
                wait_seconds=10.0,
                checker_group=checker_group,
                contents=True,
                tell=tell,
            )

        return Proofs(self._clients, verify, self._now)

    def aggregate(self, period_type: str, period_start: datetime, metric_key: str | None = None) -> PeriodClosing:
        """aggregate: close a period; the same as `periods.close`."""
        return self.periods.close(period_type, period_start, metric_key)

    def close(self) -> None:
        """Close the connections, after events that were taken are delivered."""
        if self._events is not None:
            self._events.close()
        if "status" in vars(self):
            self.status.close()
        if "limits" in vars(self):
            self.limits.close()
        self._clients.close()
        self._recounting.close()
        if self._pinging is not None:
            self._pinging.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def _sources(self) -> Sources:
        return self._given_sources or Sources.read(config=self._config)

    def ping(self) -> None:
        """Ask ClickHouse for a sign of life, over a connection of its own. For one thread. Raises Retryable or Fatal:
        after a second where it accepts no connection, and after ten where it does not answer."""
        if self._pinging is None:
            self._pinging = connect(
                self._clickhouse_settings(), timeout_seconds=_PING_SECONDS, connect_seconds=_REACH_SECONDS
            )
        try:
            ping(self._pinging)
        except MeterfoldError:
            self._pinging.close()
            self._pinging = None
            raise

    def reach(self) -> None:
        """Open a connection to ClickHouse and close it. For any thread. Raises Retryable after a second at the
        latest."""
        reach(self._clickhouse_settings(), _REACH_SECONDS)

    def _connect(self, timeout_seconds: int = 300) -> Client:
        connect_seconds = CONNECT_SECONDS if self._call_seconds is None else self._call_seconds
        return connect(self._clickhouse_settings(), timeout_seconds=timeout_seconds, connect_seconds=connect_seconds)

    def _clickhouse_settings(self) -> ClickHouseSettings:
        return self._clickhouse or ClickHouseSettings.load(sources=self._sources)

    @cached_property
    def _known_metrics(self) -> KnownMetrics:
        from meterfold_service.ingest.known_metrics import KnownMetrics

        return KnownMetrics(self._clients, time.monotonic)

    def _rules(self) -> FoldRules:
        from meterfold_sink.fold_state import read_rules

        with self._clients.client() as client:
            return read_rules(client)

    def _worker_groups(self) -> tuple[str, ...]:
        from meterfold_service.status.groups import worker_groups

        return worker_groups(self._sources, self._kafka_settings())

    def _log(self) -> DefinitionLog:
        # Imported here: it brings the Kafka client, which reading does not need.
        from meterfold_service.definition_log import DefinitionLog

        with self._lock:
            if self._definition_log is None:
                self._definition_log = DefinitionLog(
                    self._kafka_settings(), self._clients, self._wait_seconds, self._call_seconds
                )
            return self._definition_log

    def _actions(self) -> ActionLog:
        from meterfold_service.alerts.action_log import ActionLog

        with self._lock:
            if self._action_log is None:
                self._action_log = ActionLog(self._kafka_settings(), self._wait_seconds, self._call_seconds)
            return self._action_log

    def _kafka_settings(self) -> KafkaSettings:
        return self._kafka or KafkaSettings.load(sources=self._sources)
