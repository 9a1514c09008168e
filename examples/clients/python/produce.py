"""Records usage with Confluent's serializer and a Schema Registry: python produce.py SCHEMAS EVENTS.

Sends each line of the JSON Lines file EVENTS. pip install "confluent-kafka[avro,schemaregistry]"
"""

from __future__ import annotations

import json
import os
import sys
from decimal import Decimal
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

TOPIC = os.environ.get("METERFOLD_KAFKA_TOPIC_PREFIX", "") + "usage.recorded"
OPTIONAL = {"source": None, "resource_type": None, "resource_id": None, "metadata": None}


def main(schemas: Path, events: Path) -> None:
    registry = SchemaRegistryClient({"url": os.environ["SCHEMA_REGISTRY_URL"]})
    schema = Schema((schemas / "avro/usage_recorded.v1.avsc").read_text(encoding="utf-8"), "AVRO")
    # Once, when you deploy: applications use what is registered and register nothing themselves.
    registry.register_schema(f"{TOPIC}-value", schema)
    serialize = AvroSerializer(
        registry, schema.schema_str, conf={"auto.register.schemas": False, "use.latest.version": True}
    )
    producer = Producer(
        {
            "bootstrap.servers": os.environ["METERFOLD_KAFKA_BOOTSTRAP_SERVERS"],
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "compression.type": "gzip",
            **login(),
        }
    )
    sent = 0
    for line in events.read_text(encoding="utf-8").splitlines():
        event = {**OPTIONAL, **json.loads(line)["fields"]}
        event["quantity"] = Decimal(event["quantity"])
        # timestamp: microseconds since 1970 in UTC, or a datetime with a timezone
        subject = [event[name] for name in ("org_id", "metric_key", "subject_type", "subject_id")]
        key = json.dumps(subject, ensure_ascii=False, separators=(",", ":"))
        producer.produce(TOPIC, key=key, value=serialize(event, SerializationContext(TOPIC, MessageField.VALUE)))
        sent += 1
    # Not confirmed: send them again with the same ids.
    if remaining := producer.flush(60):
        sys.exit(f"{remaining} events are not confirmed")
    print(f"{sent} events confirmed")


def login() -> dict[str, str]:
    if "KAFKA_USERNAME" not in os.environ:
        return {}
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": os.environ["KAFKA_USERNAME"],
        "sasl.password": os.environ["KAFKA_PASSWORD"],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
