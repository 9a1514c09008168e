"""One look at an installation: both servers asked side by side, then what waits behind their positions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from confluent_kafka import KafkaException

from meterfold_cli.health import clickhouse_view
from meterfold_cli.health.kafka_view import KafkaEye
from meterfold_cli.health.report import Lookers, Report, make_report, positions, window_positions
from meterfold_cli.workers import group_names
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import Sources


class Health:
    """Looks again and again at one installation. Takes up to about 10 s where a server does not answer."""

    def __init__(
        self,
        sources: Sources,
        kafka: KafkaSettings,
        clickhouse: ClickHouseSettings,
        stuck_after: float = 60.0,
        rejected_within: float = clickhouse_view.REJECTED_WITHIN_SECONDS,
    ) -> None:
        """`stuck_after` and `rejected_within` in seconds. Raises InvalidSettings."""
        self._eye = KafkaEye(kafka)
        self._clickhouse = clickhouse
        self._groups = group_names(sources, kafka)
        self._stuck_after = stuck_after
        self._rejected_within = rejected_within

    def look(self) -> Report:
        with ThreadPoolExecutor(2) as pool:
            stored = pool.submit(clickhouse_view.look, self._clickhouse, self._rejected_within)
            kafka = self._eye.look(*self._groups)
            clickhouse = stored.result()
        waiting = Lookers({}, {})
        if kafka.error is None:
            try:
                waiting = Lookers(
                    self._eye.waiting_events(positions(kafka, clickhouse)),
                    self._eye.waiting_windows(window_positions(kafka)),
                )
            except KafkaException as error:
                kafka = replace(kafka, error=error.args[0].str())
        return make_report(kafka, clickhouse, waiting, datetime.now(UTC), self._stuck_after)
