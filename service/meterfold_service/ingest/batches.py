"""Documents as messages: each is encoded, repeats an earlier one, or is refused with the field and the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from meterfold.recorder import Encoded
from meterfold.values import id_text
from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.usage_fields import NAMES, OPTIONAL
from meterfold_schemas.usage_json import moment_of
from meterfold_service.ingest import cloud_events
from meterfold_service.ingest.documents import Document, RepeatedField, written

__all__ = ["Batch", "Refusal", "batch_of"]

_NAMES: Final = frozenset(NAMES)
_REQUIRED: Final = ("metric_key", "subject_type", "subject_id")
_REQUIRED_NAMES: Final = frozenset(_REQUIRED)
_MOST_SHAPES: Final = 1_000
_SHAPES: Final[set[tuple[str, ...]]] = set()
"""The names of events that were complete and had no unknown one, in their order. CloudEvents are never among them."""


class Encoder(Protocol):
    """What checks and encodes one event, as meterfold.gateway.Gateway does."""

    def encode(
        self,
        metric_key: Any,
        subject: tuple[Any, Any],
        quantity: Any,
        id: Any,
        timestamp: Any,
        org_id: Any,
        optional: Any,
    ) -> Encoded: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event was not taken. `field` None: no single field is wrong. `code` is stable."""

    id: str | None
    field: str | None
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of a request. `rows`: the place of each message in the request. `repeats`: the place of an event ->
    the place of the message that has its identity."""

    ids: list[str | None]
    keys: list[bytes]
    values: list[bytes]
    rows: list[int]
    refused: dict[int, Refusal]
    repeats: dict[int, int]


def batch_of(documents: Iterable[Document], encoder: Encoder, org_id: str | None) -> Batch:
    """`org_id`: the organization that the sender speaks for; None: any. Raises Retryable where the encoder does."""
    batch = Batch([], [], [], [], {}, {})
    ids, keys, values, rows = batch.ids, batch.keys, batch.values, batch.rows
    seen: dict[tuple[bytes, str], int] = {}
    for row, document in enumerate(documents):
        given: Any = None
        try:
            # Most events have the names of one before.
            known = type(document) is dict and tuple(document) in _SHAPES and None not in document.values()
            fields = document if known else _fields(document)
            get = fields.get
            given = get("id")
            if given is not None:
                given = id_text("id", given)
            event_id, key, value = encoder.encode(
                get("metric_key"),
                (get("subject_type"), get("subject_id")),
                written(get("quantity", 1)),
                given,
                _moment(get("timestamp")),
                _org(get("org_id"), org_id),
                tuple(map(get, OPTIONAL)),
            )
        except InvalidUsage as error:
            ids.append(given if isinstance(given, str) else None)
            batch.refused[row] = Refusal(ids[-1], _field_of(error), error.code, str(error))
            continue
        ids.append(event_id)
        if given is not None:
            first = seen.setdefault((key, event_id), len(keys))
            if first != len(keys):
                batch.repeats[row] = first
                continue
        keys.append(key)
        values.append(value)
        rows.append(row)
    return batch


def _fields(document: Document) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise InvalidUsage(f"an event must be a JSON object, not {shown(document)}")
    if isinstance(document, RepeatedField):
        raise InvalidUsage(f"{document.name} is there twice")
    fields: dict[str, Any] = document
    if cloud_events.is_cloud_event(fields):
        fields = cloud_events.fields_of(fields)
    elif None in fields.values():
        fields = {name: value for name, value in fields.items() if value is not None}
    elif len(_SHAPES) < _MOST_SHAPES and _NAMES.issuperset(fields) and fields.keys() >= _REQUIRED_NAMES:
        _SHAPES.add(tuple(fields))
    if not _NAMES.issuperset(fields):
        unknown = min(fields.keys() - _NAMES)
        raise InvalidUsage(f"{shown(unknown)} is an unknown field; known are {', '.join(NAMES)}")
    for name in _REQUIRED:
        if name not in fields:
            raise InvalidUsage(f"{name} is missing")
    return fields


def _moment(timestamp: Any) -> datetime | None:
    if timestamp is None:
        return None
    moment = moment_of(timestamp) if isinstance(timestamp, str) else None
    if moment is None:
        raise InvalidUsage(
            f"timestamp {shown(timestamp)} is not a time in ISO 8601 with an offset, such as 2026-11-22T09:30:00Z"
        )
    return moment


def _org(given: Any, own: str | None) -> Any:
    if own is None or given == own:
        return given
    if given is None:
        return own
    raise InvalidUsage(
        f"org_id {shown(given)} is another organization than the token's; leave it out, or use a token of that one",
        code="FORBIDDEN",
    )


def _field_of(error: InvalidUsage) -> str | None:
    """The texts of the rules begin with the field."""
    word = str(error).partition(" ")[0].strip("'")
    return word if word in _NAMES else None
