"""The demo's definitions: three metrics, and thresholds on whole lifetimes and on months."""

from __future__ import annotations

from typing import Any

from meterfold_cli.demo.sending import ORG
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service import Metering

_METRICS: tuple[dict[str, Any], ...] = (
    {"key": "flights", "name": "Flights", "unit": "flights", "aggregation_type": "count", "precision": 0},
    {"key": "miles", "name": "Distance flown", "unit": "miles", "aggregation_type": "sum", "precision": 0},
    {"key": "air_minutes", "name": "Longest time in the air", "unit": "minutes", "aggregation_type": "max"},
)
_THRESHOLDS: tuple[dict[str, Any], ...] = (
    {"metric_key": "flights", "name": "50,000 flights", "threshold": 50_000, "period_type": "lifetime"},
    {"metric_key": "miles", "name": "50 million miles", "threshold": 50_000_000, "period_type": "lifetime"},
    {"metric_key": "air_minutes", "name": "eleven hours in the air", "threshold": 660, "period_type": "lifetime"},
    {"metric_key": "flights", "name": "1,500 flights a month", "threshold": 1_500, "period_type": "monthly"},
)


def define(kafka: KafkaSettings, clickhouse: ClickHouseSettings) -> dict[str, str]:
    """Define all of it, again without effect where it is defined; returns the name of each threshold by its id."""
    with Metering(kafka=kafka, clickhouse=clickhouse) as metering:
        for metric in _METRICS:
            metering.metrics.define(org_id=ORG, **metric)
        made = [metering.thresholds.create(org_id=ORG, **threshold) for threshold in _THRESHOLDS]
    return {threshold.id: threshold.name for threshold in made}
