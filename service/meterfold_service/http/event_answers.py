"""What a request with events is answered, once each event has its report."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi.responses import Response

from meterfold_service.http.problems import PROBLEM, RETRY_SECONDS
from meterfold_service.ingest.operations import Pending

__all__ = ["answer_of", "failed_delivery"]

_FAILED: Final = (
    "Kafka did not confirm every event, so the outcome of those with the status failed is unknown. Send them again "
    "with the same ids; one that did arrive counts once"
)


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
        return failed_delivery(answer)
    if len(batch.refused) == len(results):
        first = batch.refused[0]
        problem = _problem(HTTPStatus.UNPROCESSABLE_ENTITY, first.code, first.detail)
        return Response(orjson.dumps({**problem, **answer}), 422, media_type=PROBLEM)
    status = HTTPStatus.MULTI_STATUS if batch.refused else HTTPStatus.OK
    return Response(orjson.dumps(answer), status, media_type="application/json")


def failed_delivery(answer: Mapping[str, Any] | None = None) -> Response:
    """503: not every event was confirmed. `answer`: what else is known."""
    problem = _problem(HTTPStatus.SERVICE_UNAVAILABLE, "DELIVERY_FAILED", _FAILED)
    body = orjson.dumps({**problem, **(answer or {})})
    return Response(body, problem["status"], media_type=PROBLEM, headers={"Retry-After": str(RETRY_SECONDS)})


def _problem(status: HTTPStatus, code: str, detail: str) -> dict[str, Any]:
    return {"type": "about:blank", "title": status.phrase, "status": status.value, "code": code, "detail": detail}


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
