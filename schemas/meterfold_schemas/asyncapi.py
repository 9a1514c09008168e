"""The AsyncAPI 3.0 document of every public topic, made of what topics.py, contents.py and the catalog declare.

It describes an installation with the default settings and without a topic prefix. Values are Avro; keys, headers and
topic settings are in the Kafka bindings. AsyncAPI has no words for the isolation level and for what a tombstone means,
so they are extensions: `x-isolation-level`, `x-compression`, `x-partition`, `x-tombstone`, `x-header-bytes`.
"""

from __future__ import annotations

from typing import Any, Final

from meterfold_schemas import catalog, json_schemas
from meterfold_schemas.catalog import EventSchema
from meterfold_schemas.contents import PUBLIC, TopicContent
from meterfold_schemas.topics import USAGE_RECORDED, TopicSpec, topic_specs

__all__ = ["BINDING", "PARTITIONS", "VERSION", "document"]

VERSION: Final = "3.0.0"
BINDING: Final = "0.5.0"
#: The default of `meterfold migrate`.
PARTITIONS: Final = 6

_AVRO: Final = "application/vnd.apache.avro+json;version=1.9.0"
_ISOLATION: Final = "read_committed"
_DESCRIPTION: Final = (
    "Usage metering on Kafka. A value is Avro in single-object encoding: the ten bytes of x-header-bytes, then the "
    "body. Applications may also write usage.recorded as JSON. A key is a JSON array in UTF-8 without spaces, with the "
    "escapes of RFC 8785. Consumers read committed messages only. A topic prefix of an installation goes before every "
    "address."
)


def document() -> dict[str, Any]:
    """The whole document."""
    specs = {spec.name: spec for spec in topic_specs(PARTITIONS)}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Meterfold",
            "version": "1",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/avro",
        "channels": {content.topic: _channel(content, specs[content.topic]) for content in PUBLIC},
        "operations": {_operation_id(content): _operation(content) for content in PUBLIC},
        "components": {"messages": {name: message for content in PUBLIC for name, message in _messages(content)}},
    }


def _channel(content: TopicContent, spec: TopicSpec) -> dict[str, Any]:
    return {
        "address": content.topic,
        "summary": content.summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name, _ in _messages(content)},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.count,
                "replicas": spec.replication,
                "topicConfiguration": _configuration(spec.config),
                "bindingVersion": BINDING,
            }
        },
        "x-isolation-level": _ISOLATION,
        "x-compression": spec.config.get("compression.type", "producer"),
        "x-partition": content.routed_by,
        **({"x-tombstone": content.tombstone} if content.tombstone else {}),
    }


def _configuration(config: dict[str, str]) -> dict[str, Any]:
    """Topic settings with the types that the binding gives them."""
    typed: dict[str, Any] = {name: int(value) if value.isdecimal() else value for name, value in config.items()}
    return {**typed, "cleanup.policy": [config["cleanup.policy"]]}


def _operation_id(content: TopicContent) -> str:
    return f"{'receive' if content.meterfold_reads else 'send'}.{content.topic}"


def _operation(content: TopicContent) -> dict[str, Any]:
    return {
        "action": "receive" if content.meterfold_reads else "send",
        "channel": {"$ref": f"#/channels/{content.topic}"},
        "summary": content.summary,
    }


def _messages(content: TopicContent) -> list[tuple[str, dict[str, Any]]]:
    """(name, message) for every version of every schema of a topic: a topic may hold values of older versions."""
    if not content.schemas:
        return [(content.topic.replace(".", "_"), _message(content, None))]
    versions = [schema for name in content.schemas for schema in catalog.all_versions(name)]
    messages = [(schema.label, _message(content, schema)) for schema in versions]
    return messages + (_json_messages(content) if content.topic == USAGE_RECORDED else [])


def _json_messages(content: TopicContent) -> list[tuple[str, dict[str, Any]]]:
    """What applications without Avro may write."""
    kinds = (
        (json_schemas.JSON_VALUE, "application/json", json_schemas.of_json_value()),
        (json_schemas.CLOUD_EVENT, "application/cloudevents+json", json_schemas.of_cloud_event()),
    )
    return [
        (
            name,
            {
                **_message(content, None),
                "name": name,
                "title": schema["title"],
                "summary": schema["description"],
                "contentType": content_type,
                "payload": {key: value for key, value in schema.items() if not key.startswith("$")},
            },
        )
        for name, content_type, schema in kinds
    ]


def _message(content: TopicContent, schema: EventSchema | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": schema.label if schema else content.topic,
        "title": schema.definition["name"] if schema else "The original message",
        "summary": schema.definition["doc"] if schema else content.summary,
        "contentType": "application/avro" if schema else "application/octet-stream",
    }
    if schema:
        described["payload"] = {"schemaFormat": _AVRO, "schema": schema.definition}
        described["x-header-bytes"] = schema.header.hex()
    if content.headers:
        described["headers"] = {
            "type": "object",
            "properties": {name: {"type": "string", "description": text} for name, text in content.headers.items()},
            "required": list(content.headers),
        }
    described["bindings"] = {"kafka": {"key": _key(content), "bindingVersion": BINDING}}
    return described


def _key(content: TopicContent) -> dict[str, Any]:
    if content.key_text:
        return {"type": "string", "description": content.key_text}
    return {
        "type": "array",
        "description": f"The bytes of the JSON array [{', '.join(part.name for part in content.key)}]",
        "items": [{"type": part.kind, "title": part.name} for part in content.key],
        "minItems": len(content.key),
        "maxItems": len(content.key),
    }
