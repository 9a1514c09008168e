"""CloudEvents 1.0 attributes as Kafka headers (binary content mode) on the public events."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Final

__all__ = ["ATTRIBUTES", "CONTENT_TYPE", "headers", "headers_of_each", "subject_bytes", "subject_text"]

#: An Avro value in single-object encoding.
CONTENT_TYPE: Final = "application/avro"

#: Every header with its meaning. Values are text in UTF-8.
ATTRIBUTES: Final = MappingProxyType(
    {
        "ce_specversion": "1.0.",
        "ce_type": "The topic's name without prefix.",
        "ce_id": "The event's event_id. A repeat has the same.",
        "ce_source": "The process that published the event.",
        "ce_subject": "What the event is about: subject_type:subject_id, a metric's key or a threshold's id. "
        "Control characters are percent-encoded.",
        "ce_time": "The event's occurred_at, in UTC as ISO 8601.",
        "content-type": f"{CONTENT_TYPE}.",
    }
)

# CloudEvents 1.0, "Type System": a String has none of these.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")


def headers(event_type: str, event_id: str, source: str, time: datetime, subject: str) -> tuple[tuple[str, bytes], ...]:
    """Headers of one event. `source` is a URI reference that names the producer, `time` an aware datetime."""
    (found,) = headers_of_each(event_type, [event_id.encode()], source, time, [subject_bytes(subject)])
    return tuple(found)


def headers_of_each(
    event_type: str, event_ids: Iterable[bytes], source: str, time: datetime, subjects: Iterable[bytes]
) -> list[list[tuple[str, bytes]]]:
    """Headers of many events of one time; `subjects` as `subject_bytes` writes them."""
    version, kind, origin, stamp, content = _shared(event_type, source, time)
    return [
        [version, kind, ("ce_id", event_id), origin, ("ce_subject", subject), stamp, content]
        for event_id, subject in zip(event_ids, subjects, strict=True)
    ]


def subject_bytes(subject: str) -> bytes:
    """The value of `ce_subject`."""
    return (subject if subject.isprintable() else _FORBIDDEN.sub(_percent_encoded, subject)).encode()


@lru_cache(maxsize=256)
def _shared(event_type: str, source: str, time: datetime) -> tuple[tuple[str, bytes], ...]:
    """The headers that all events of one step have in common: a checker emits thousands at a time."""
    stamp = time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return (
        ("ce_specversion", b"1.0"),
        ("ce_type", event_type.encode()),
        ("ce_source", source.encode()),
        ("ce_time", stamp.encode()),
        ("content-type", CONTENT_TYPE.encode()),
    )


def subject_text(subject_type: str, subject_id: str) -> str:
    """`ce_subject` of an event about a subject, as the command line writes subjects: user:ada."""
    return f"{subject_type}:{subject_id}"


def _percent_encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())
