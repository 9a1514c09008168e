"""One look at an installation: both servers are asked side by side, then what waits after their positions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self

from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings, load_settings
from meterfold_schemas.settings_sources import Sources
from meterfold_service.notify.settings import NotifySettings
from meterfold_service.status import clickhouse_view
from meterfold_service.status.groups import group_names, notify_group
from meterfold_service.status.kafka_view import KafkaInspector, PendingHeads
from meterfold_service.status.positions import positions
from meterfold_service.status.report import StatusReport, make_report


class Inspector:
    """Looks at one installation, repeatedly. A look takes up to about 10 s where a server does not answer."""

    def __init__(
        self,
        sources: Sources,
        kafka: KafkaSettings,
        clickhouse: ClickHouseSettings,
        stuck_after: float = 60.0,
        rejected_within: float = clickhouse_view.REJECTED_WITHIN_SECONDS,
    ) -> None:
        """`stuck_after` and `rejected_within` in seconds. Raises InvalidSettings."""
        self._kafka = KafkaInspector(kafka, *group_names(sources, kafka), notify_group(sources, kafka))
        self._chats = bool(load_settings(NotifySettings, "notify", sources=sources).chat_urls)
        self._clickhouse = clickhouse
        self._stuck_after = stuck_after
        self._rejected_within = rejected_within

    def look(self) -> StatusReport:
        with ThreadPoolExecutor(1) as pool:
            stored = pool.submit(clickhouse_view.look, self._clickhouse, self._rejected_within)
            kafka = self._kafka.look()
            clickhouse = stored.result()
        waiting = PendingHeads({}, {})
        if kafka.error is None:
            try:
                waiting = self._kafka.waiting(kafka, positions(kafka, clickhouse))
            except MeterfoldError as error:
                # Nothing found and nothing known are not the same: what did not answer may have events.
                kafka = replace(kafka, error=str(error))
        return make_report(kafka, clickhouse, waiting, datetime.now(UTC), self._stuck_after, chats=self._chats)

    def close(self) -> None:
        """Close the connections."""
        self._kafka.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
