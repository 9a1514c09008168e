"""What a request with events is answered, once each event has its report."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import orjson
from fastapi.responses import Response

from meterfold_service.http.problems import PROBLEM
from meterfold_service.ingest.operations import Pending

__all__ = ["answer_of"]


def answer_of(pending: Pending) -> Response:
    """200: all are accepted. 207: some are refused. 422: all are refused. 503: some were not delivered."""
    batch, sent = pending.batch, pending.sent
    results: list[dict[str, Any]] = [{}] * len(batch.ids)
    failed = {} if sent is None else sent.errors
    for place, row in enumerate(batch.rows):
        results[row] = _of_message(pending, place, batch.ids[row], "accepted")
    for row, place in batch.repeats.items():
        results[row] = _of_message(pending, place, batch.ids[row], "repeated")
    for row, refusal in batch.refused.items():
        results[row] = {
            "status": "refused",
            "id": refusal.id,
            "code": refusal.code,
            "field": refusal.field,
            "detail": refusal.detail,
        }
    counts = {"accepted": 0, "repeated": 0, "refused": 0, "failed": 0}
    for result in results:
        counts[result["status"]] += 1
    answer: dict[str, Any] = {**counts, "results": results}
    if failed:
        status = HTTPStatus.SERVICE_UNAVAILABLE
    elif len(batch.refused) == len(results):
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    elif batch.refused:
        status = HTTPStatus.MULTI_STATUS
    else:
        status = HTTPStatus.OK
    if status < HTTPStatus.BAD_REQUEST:
        return Response(orjson.dumps(answer), status, media_type="application/json")
    return Response(orjson.dumps(answer), status, media_type=PROBLEM)


def _of_message(pending: Pending, place: int, event_id: str | None, status: str) -> dict[str, Any]:
    sent = pending.sent
    assert sent is not None
    if (error := sent.errors.get(place)) is not None:
        return {"status": "failed", "id": event_id, "code": "DELIVERY_FAILED", "detail": error}
    return {
        "status": status,
        "id": event_id,
        "partition": sent.partitions[place],
        "offset": sent.offsets[place],
    }
