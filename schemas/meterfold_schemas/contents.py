"""What each topic carries: its key, its values, its headers, and how a consumer has to read it.

How a topic is created (partitions, retention, compression) is in topics.py. The AsyncAPI document and the tables of
docs/consuming.md are made of, or compared with, both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from meterfold_schemas import topics
from meterfold_schemas.cloudevents import ATTRIBUTES
from meterfold_schemas.keys import SUBJECT

__all__ = ["CONTENTS", "PUBLIC", "REJECTION_HEADERS", "KeyPart", "TopicContent"]

#: The headers of `usage.rejected`, each with its meaning. Values are text in UTF-8.
REJECTION_HEADERS: Final = MappingProxyType(
    {
        "reason": "Why the message was rejected: undecodable, invalid, misrouted, too_old or in_future.",
        "detail": "What was found, for people.",
        "topic": "The topic that the message was read from.",
        "partition": "Its partition there, in decimal digits.",
        "offset": "Its offset there, in decimal digits. Topic, partition and offset identify the message.",
    }
)


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One element of the JSON array that is a key."""

    name: str
    kind: Literal["string", "integer"] = "string"


@dataclass(frozen=True, slots=True)
class TopicContent:
    """The messages of one topic.

    `key` has the elements of the JSON array that is the key; a key that is one plain text has `key_text` instead.
    `schemas` names the Avro schemas of the values; a topic without any carries bytes as they came. `tombstone` says
    what a message without a value means; None where there is none. `routed_by` says which partition a message is on.
    `meterfold_reads`: applications write the topic and Meterfold reads it.
    """

    topic: str
    summary: str
    schemas: tuple[str, ...]
    routed_by: str
    key: tuple[KeyPart, ...] = ()
    key_text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    tombstone: str | None = None
    meterfold_reads: bool = False


_SUBJECT: Final = tuple(map(KeyPart, SUBJECT))
_WINDOW: Final = (*_SUBJECT, KeyPart("period_type"), KeyPart("period_start", "integer"))
_BY_KEY: Final = "murmur2 of the key"
_BY_SOURCE: Final = "the same as on `usage.recorded`"
_FIRST: Final = "0"


def _alerts(topic: str, summary: str) -> TopicContent:
    return TopicContent(
        topic,
        summary,
        (topic.replace(".", "_"),),
        _BY_KEY,
        key=(KeyPart("threshold_id"), *_SUBJECT),
        headers=ATTRIBUTES,
    )


#: Every topic but the internal one.
PUBLIC: Final = (
    TopicContent(
        topics.USAGE_RECORDED,
        "Usage as applications record it. Each event counts exactly once.",
        ("usage_recorded",),
        _BY_KEY,
        key=_SUBJECT,
        meterfold_reads=True,
    ),
    TopicContent(
        topics.USAGE_REJECTED,
        "Messages of usage.recorded that can never count: the original bytes, with the reason in headers.",
        (),
        _BY_SOURCE,
        key=_SUBJECT,
        headers=REJECTION_HEADERS,
    ),
    TopicContent(
        topics.USAGE_AGGREGATED,
        "The state of each window. A later revision of the same window replaces an earlier one.",
        ("usage_aggregated",),
        _BY_SOURCE,
        key=_WINDOW,
        headers=ATTRIBUTES,
        tombstone="the window is no longer kept",
    ),
    _alerts(topics.THRESHOLD_APPROACHING, "A subject's usage has reached the warning value of a threshold."),
    _alerts(topics.THRESHOLD_EXCEEDED, "A subject's usage has reached a threshold."),
    _alerts(topics.THRESHOLD_CLEARED, "A level that was reached does not hold any longer."),
    TopicContent(
        topics.THRESHOLD_STATE,
        "What was judged last for each threshold, subject and window; also what a quota gate reads.",
        ("threshold_state",),
        _BY_SOURCE,
        key=(KeyPart("threshold_id"), *_WINDOW),
        tombstone="no longer kept",
    ),
    TopicContent(
        topics.METRIC_DEFINED,
        "The definition of each metric.",
        ("metric_defined",),
        _FIRST,
        key=(KeyPart("org_id"), KeyPart("key")),
        headers=ATTRIBUTES,
        tombstone="deleted",
    ),
    TopicContent(
        topics.THRESHOLD_DEFINED,
        "The definition of each threshold.",
        ("threshold_defined",),
        _FIRST,
        key_text="the threshold's id",
        headers=ATTRIBUTES,
        tombstone="deleted",
    ),
    TopicContent(
        topics.ALERT_ACTED,
        "Somebody acknowledged or resolved an alert. The first message of an alert and action is valid.",
        ("alert_acted",),
        _FIRST,
        key_text="the alert's id",
        headers=ATTRIBUTES,
    ),
    TopicContent(
        topics.ENDPOINT_CHANGED,
        "A webhook endpoint fails, is disabled, or works again.",
        ("endpoint_changed",),
        _FIRST,
        key_text="the endpoint's URL",
        headers=ATTRIBUTES,
    ),
)

CONTENTS: Final = MappingProxyType({content.topic: content for content in PUBLIC})
