"""The SDK's own settings, table [sdk] or METERFOLD_SDK_*, and what they mean to librdkafka."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from meterfold.tracing import TraceMode
from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.settings import KafkaSettings, Settings

__all__ = ["SdkSettings", "producer_config"]

#: What the SDK's promises rest on; a setting that conflicts is refused rather than overruled silently.
_FIXED: Final[dict[str, tuple[str, str]]] = {
    "acks": ("all", "an event is delivered only when every in-sync replica has it"),
    "request.required.acks": ("all", "an event is delivered only when every in-sync replica has it"),
    "enable.idempotence": ("true", "a retry inside the client must not write an event twice"),
    "partitioner": ("murmur2_random", "one subject belongs to one partition, in every language"),
    "allow.auto.create.topics": ("false", "`meterfold migrate` creates the topics"),
}
_OURS: Final = {
    "queue.buffering.max.messages": "buffer_events",
    "queue.buffering.max.kbytes": "buffer_bytes",
    "message.timeout.ms": "delivery_timeout",
    "delivery.timeout.ms": "delivery_timeout",
}
_REFUSED: Final = {
    "transactional.id": "the SDK sends events without transactions",
    "delivery.report.only.error": "the SDK counts every report",
}
# Batches of a few milliseconds: far fewer requests, and lz4 halves what travels for little CPU.
_DEFAULTS: Final = {"linger.ms": "10", "compression.type": "lz4"}


class SdkSettings(Settings):
    """Times in seconds. enabled: without it nothing is recorded, and no broker is needed.

    horizon_seconds and future_tolerance_seconds repeat the installation's stored rules, so that an event which the fold
    would reject is refused when it is recorded. None: not known here, and not checked.

    strict: usage of a metric that is not defined, or not active, is refused when it is recorded.

    propagate_trace: whether events carry the trace of the span in which they are recorded (tracing.py).
    """

    enabled: bool = True
    org_id: str = Field(default="", max_length=512)
    buffer_events: int = Field(default=100_000, ge=1, le=10_000_000)
    buffer_bytes: int = Field(default=64 * 1024 * 1024, ge=1024 * 1024, le=2_000_000_000)
    buffer_timeout: float = Field(default=10.0, ge=0, le=3600)
    delivery_timeout: float = Field(default=120.0, ge=1, le=86_400)
    close_timeout: float = Field(default=30.0, ge=0, le=3600)
    horizon_seconds: int | None = Field(default=None, ge=1, le=10**10)
    future_tolerance_seconds: int | None = Field(default=None, ge=0, le=10**10)
    strict: bool = False
    propagate_trace: TraceMode = "auto"


def producer_config(kafka: KafkaSettings, sdk: SdkSettings) -> dict[str, Any]:
    """The dictionary for confluent_kafka.Producer. Raises InvalidSettings for what would break a promise."""
    for name, value in kafka.librdkafka.items():
        if name in _FIXED and value.lower() != _FIXED[name][0] and (name, value) != ("acks", "-1"):
            wanted, why = _FIXED[name]
            raise InvalidSettings(f"{name}={value} conflicts with the SDK, which requires {name}={wanted}: {why}")
        if name in _OURS:
            raise InvalidSettings(f"set {_OURS[name]} under [sdk] (or as an argument) instead of {name}")
        if name in _REFUSED:
            raise InvalidSettings(f"{name} cannot be set for the SDK: {_REFUSED[name]}")
    return {
        **_DEFAULTS,
        **kafka.client(),
        **{name: value for name, (value, _) in _FIXED.items() if name != "request.required.acks"},
        "queue.buffering.max.messages": sdk.buffer_events,
        "queue.buffering.max.kbytes": sdk.buffer_bytes // 1024,
        "message.timeout.ms": round(sdk.delivery_timeout * 1000),
    }
