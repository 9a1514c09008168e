"""Confluent's own client with its Avro serializer, Apicurio Registry, and the fold."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

from clients import apicurio
from clients.tools import expect, run
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_schemas import catalog, framing, published, usage_vectors
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from support import consume_all
from support.cli import answer, running

DEADLINE = 120


def check(folder: Path, stack: LocalStack) -> None:
    """A hundred events with a registry id are counted; sent again without the registry they are duplicates."""
    kafka, clickhouse = stack.kafka_settings("confluent."), stack.clickhouse_settings("clients_confluent")
    write_settings(folder / "meterfold.toml", kafka, clickhouse)
    schemas = folder / "schemas"
    published.export(schemas)
    base = {
        **os.environ,
        "METERFOLD_CONFIG": str(folder / "meterfold.toml"),
        "METERFOLD_FOLD_BATCH_SECONDS": "0.05",
    }
    client = {
        **os.environ,
        "METERFOLD_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "METERFOLD_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "KAFKA_USERNAME": kafka.librdkafka["sasl.username"],
        "KAFKA_PASSWORD": kafka.librdkafka["sasl.password"],
    }
    with apicurio.running(folder / "apicurio.log") as url:
        environment = {**base, "METERFOLD_SCHEMA_REGISTRY_URL": url}
        # The timestamps of the vectors are fixed, so events may be old.
        migrated = answer(
            *("migrate", "--partitions", str(usage_vectors.PARTITIONS)),
            *("--horizon-days", "7300", "--record-retention-days", "7400"),
            env=environment,
        )
        expect(migrated["rules"]["decoder_version"] == "3", f"migrate stored {migrated['rules']}")
        command = (sys.executable, "produce.py", str(schemas), str(schemas / usage_vectors.FILE))
        client["SCHEMA_REGISTRY_URL"] = url
        for _ in range(2):
            said = run(command, folder, client)
            expect("100 events confirmed" in said, f"produce printed {said!r}")
        _same_events(kafka)
        with running("fold", env=environment, folder=folder, ready="fold: ready"):
            _counted(base, 100, 100)
    # The registry is gone: what its id means is stored.
    _send_again(kafka)
    with running("fold", env=base, folder=folder, ready="fold: ready"):
        _counted(base, 100, 101)
    (decided,) = answer("schema", "list", env=base)
    expect(decided["state"] == "read" and decided["schema"] == "usage_recorded.v1", f"schema list says {decided}")


def _counted(environment: dict[str, str], counted: int, duplicates: int) -> None:
    status = answer("status", "--wait", str(DEADLINE), env=environment, code=None)
    found = {key: status[key] for key in ("counted", "duplicates", "rejected")}
    wanted = {"counted": counted, "duplicates": duplicates, "rejected": 0}
    expect(found == wanted, f"the fold says {found}, not {wanted}")


def _same_events(kafka: KafkaSettings) -> None:
    """Key, partition and fields are those of the vectors. (The serializer writes some negative quantities with a byte
    more than needed.)"""
    header = catalog.latest("usage_recorded").header
    found: Counter[tuple[bytes, int, str]] = Counter()
    for message in consume_all(kafka, Topics(kafka.topic_prefix).usage_recorded):
        expect(message.value()[:1] == b"\0", f"the value begins with {message.value()[:5].hex()}")
        found[message.key(), message.partition(), repr(framing.decode(header + message.value()[5:]))] += 1
    for vector in usage_vectors.stored():
        wanted = vector.key, vector.partition, repr(framing.decode(vector.value))
        expect(found[wanted] == 2, f"{vector.case}: {wanted} was sent {found[wanted]} times")


def _send_again(kafka: KafkaSettings) -> None:
    from support import producer

    topic = Topics(kafka.topic_prefix).usage_recorded
    first = consume_all(kafka, topic)[0]
    again = producer(kafka)
    again.produce(topic, key=first.key(), value=first.value(), partition=first.partition())
    expect(again.flush(30) == 0, "the event was not confirmed")
