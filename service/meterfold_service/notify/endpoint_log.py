"""How changes of webhook endpoints are written to their topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meterfold_processor.kafka.clients import Outgoing
from meterfold_schemas import cloudevents
from meterfold_schemas.endpoint_changes import EndpointChanged
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import ENDPOINT_CHANGED, Topics

__all__ = ["PUBLISHER", "PUBLISH_SECONDS", "message"]

PUBLISHER: Final[Mapping[str, Any]] = {"linger.ms": 0, "compression.type": "gzip"}
"""Settings of the producer."""
PUBLISH_SECONDS: Final = 15.0
_SOURCE: Final = "/meterfold/notify"


def message(kafka: KafkaSettings, event: EndpointChanged) -> Outgoing:
    """The message of an event."""
    headers = cloudevents.headers(ENDPOINT_CHANGED, event.event_id, _SOURCE, event.occurred_at, event.endpoint)
    return Outgoing(Topics(kafka.topic_prefix).endpoint_changed, event.to_bytes(), event.key, 0, headers)
