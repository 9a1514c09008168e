"""What Lago's clients are answered."""

from __future__ import annotations

from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from fastapi.responses import JSONResponse, Response

from meterfold_schemas.quantities import number_text
from meterfold_service.http.event_answers import failed_delivery
from meterfold_service.lago.operations import CurrentUsage, LagoIngested, MetricUsage

__all__ = ["current_usage", "many", "one"]

_AGGREGATIONS: Final = {
    "sum": "sum_agg",
    "count": "count_agg",
    "max": "max_agg",
    "last": "latest_agg",
    "min": "custom_agg",
    "avg": "custom_agg",
}
_CURRENCY: Final = "USD"
"""Lago's clients require one. Meterfold has no prices: every amount is 0."""


def one(event: Any, found: LagoIngested) -> Response:
    """The event, as it was sent."""
    refused = _problem(found)
    return refused or JSONResponse({"event": _event(event)})


def many(events: list[Any], found: LagoIngested) -> Response:
    """The events, as they were sent. 422: some were refused; the others were taken."""
    return _problem(found) or JSONResponse({"events": [_event(event) for event in events]})


def current_usage(found: CurrentUsage) -> dict[str, Any]:
    """The usage of this month; a charge for each metric that was used, without prices."""
    return {
        "customer_usage": {
            "from_datetime": _time(found.start),
            "to_datetime": _time(found.end - timedelta(seconds=1)),
            "issuing_date": found.end.date().isoformat(),
            "lago_invoice_id": None,
            "currency": _CURRENCY,
            "amount_cents": 0,
            "taxes_amount_cents": 0,
            "total_amount_cents": 0,
            "charges_usage": [_charge(usage) for usage in found.metrics],
        }
    }


def _charge(usage: MetricUsage) -> dict[str, Any]:
    metric, units = usage.metric, number_text(usage.units)
    return {
        "units": units,
        "total_aggregated_units": units,
        "events_count": usage.events,
        "amount_cents": 0,
        "amount_currency": _CURRENCY,
        "charge": {"lago_id": metric.id, "charge_model": "standard", "invoice_display_name": metric.name},
        "billable_metric": {
            "lago_id": metric.id,
            "name": metric.name,
            "code": metric.key,
            "aggregation_type": _AGGREGATIONS[metric.aggregation_type.value],
        },
        "filters": [],
        "grouped_usage": [],
    }


def _problem(found: LagoIngested) -> Response | None:
    if found.pending.sent is not None and found.pending.sent.errors:
        return failed_delivery()
    if not found.refused:
        return None
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    details = {str(place): {"event": [text]} for place, text in sorted(found.refused.items())}
    body = {"status": status, "error": status.phrase, "code": "validation_errors", "error_details": details}
    return JSONResponse(body, status)


def _event(event: Any) -> dict[str, Any]:
    """The fields that Lago's clients require; what Meterfold does not know is null."""
    return {
        "lago_id": None,
        "transaction_id": event["transaction_id"],
        "lago_customer_id": None,
        "lago_subscription_id": None,
        "external_subscription_id": event["external_subscription_id"],
        "code": event["code"],
        "timestamp": str(event.get("timestamp") or ""),
        "precise_total_amount_cents": event.get("precise_total_amount_cents"),
        "properties": event.get("properties") or {},
        "created_at": None,
    }


def _time(moment: Any) -> str:
    return str(moment.isoformat().replace("+00:00", "Z"))
