"""Which documents a request has, by its headers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import orjson

from meterfold_service.ingest import cloud_events
from meterfold_service.ingest.documents import Document, documents_of, parsed
from meterfold_service.ingest.errors import TooManyEvents, UnreadableBody

__all__ = ["CLOUD_EVENT", "CLOUD_EVENTS", "documents_in"]

CLOUD_EVENT: Final = "application/cloudevents+json"
CLOUD_EVENTS: Final = "application/cloudevents-batch+json"


def documents_in(headers: Mapping[str, str], body: bytes, most: int) -> list[Document]:
    """One document per event. Raises UnreadableBody and TooManyEvents."""
    attributes = cloud_events.attributes_of_headers(headers.items())
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if attributes and kind not in (CLOUD_EVENT, CLOUD_EVENTS):
        return [{**attributes, "data": parsed(body)}]
    documents = documents_of(body)
    for document in documents:
        # As text it is checked once, and then known.
        if type(document) is dict and type(metadata := document.get("metadata")) is dict:
            with suppress(TypeError):  # a number that JSON libraries do not keep, or half of a surrogate pair
                document["metadata"] = orjson.dumps(metadata).decode()
    if not documents:
        raise UnreadableBody("the body has no event; send a JSON object, or a list of at least one")
    if len(documents) > most:
        raise TooManyEvents(f"the request has {len(documents):,} events; at most {most:,} are allowed")
    return documents
