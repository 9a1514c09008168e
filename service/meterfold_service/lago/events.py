"""An event of Lago as a usage event. Pure.

`code` is the metric, the subscription is the subject, `transaction_id` the id. The quantity is the property that the
metric's metadata names ({"lago": {"field_name": "tokens"}}), else the property `value`, else 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.periods import MICROS_PER_SECOND, Period, from_micros, micros, period_end, period_start
from meterfold_schemas.quantities import rounded
from meterfold_schemas.usage_json import moment_of
from meterfold_service.ingest.documents import written

if TYPE_CHECKING:
    from meterfold_schemas.definitions import MetricDefinition

__all__ = ["FIELD_NAME", "SUBJECT_TYPE", "usage_of"]

SUBJECT_TYPE: Final = "subscription"
FIELD_NAME: Final = "field_name"
_OWN: Final = "lago"
_VALUE: Final = "value"
_ROUNDING: Final = "half_even"


def usage_of(document: Any, metrics: Mapping[str, MetricDefinition]) -> dict[str, Any]:
    """Raises InvalidUsage."""
    if not isinstance(document, dict):
        raise InvalidUsage(f"an event must be a JSON object, not {shown(document)}")
    for name in ("transaction_id", "external_subscription_id", "code"):
        if not isinstance(document.get(name), str) or not document[name]:
            raise InvalidUsage(f"{name} {shown(document.get(name))} must be text that is not empty")
    properties = document.get("properties") or {}
    if not isinstance(properties, dict):
        raise InvalidUsage(f"properties {shown(properties)} must be a JSON object")
    return {
        "id": document["transaction_id"],
        "metric_key": document["code"],
        "subject_type": SUBJECT_TYPE,
        "subject_id": document["external_subscription_id"],
        "quantity": str(_quantity(properties, metrics.get(document["code"]))),
        "timestamp": _time(document.get("timestamp")),
        "source": _OWN,
        "metadata": properties or None,
    }


def _quantity(properties: Mapping[str, Any], metric: MetricDefinition | None) -> Decimal:
    own = json.loads(metric.metadata).get(_OWN) if metric is not None and metric.metadata else None
    name = own.get(FIELD_NAME) if isinstance(own, dict) else None
    value = written(properties.get(name or _VALUE))
    if value is None:
        if name is not None:
            raise InvalidUsage(f"properties has no {name}, which metric {metric.key if metric else ''} adds up")
        return Decimal(1)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidUsage(f"properties has the {name or _VALUE} {shown(value)}, which is not a number")
    return rounded(value.strip() if isinstance(value, str) else value, _ROUNDING)


def _time(given: Any) -> str | None:
    """Lago has seconds since 1970, as a number or text, or ISO 8601."""
    if given is None:
        return None
    text = written(given)
    if isinstance(text, str) and (moment := moment_of(text)) is not None:
        return moment.isoformat()
    try:
        seconds = Decimal(str(text)) if not isinstance(text, bool) else Decimal("NaN")
        return from_micros(int(seconds * MICROS_PER_SECOND)).astimezone(UTC).isoformat()
    except (ArithmeticError, ValueError):
        raise InvalidUsage(
            f"timestamp {shown(given)} must be in seconds since 1970 in UTC, or in ISO 8601 with an offset"
        ) from None


def month_of(now: datetime) -> tuple[datetime, datetime]:
    """The calendar month in UTC that holds `now`, [start, end)."""
    start = period_start(Period.MONTHLY, micros(now))
    end = period_end(Period.MONTHLY, start)
    assert end is not None
    return from_micros(start), from_micros(end)
