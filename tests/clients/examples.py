"""The examples for other languages (examples/clients) on an installation of their own.

The bytes and partitions of what each produces are those of the test vectors, the fold counts every event, and each
reads the aggregates and threshold events as they are.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Message

from clients.tools import expect, run
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_schemas import framing, published, usage_vectors
from meterfold_schemas.events import UsageAggregated
from meterfold_schemas.quantities import to_decimal
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import connect
from support import consume_all, eventually
from support.cli import answer, running
from support.paths import ROOT

SOURCES: Final = ROOT / "examples" / "clients"
DEADLINE: Final = 120

#: How each runs a program of its folder.
COMMANDS: Final[dict[str, Callable[..., tuple[str, ...]]]] = {
    "go": lambda name, *arguments: ("go", "run", f"./{name}", *arguments),
    "java": lambda name, *arguments: (
        *("mvn", "-q", "-B", "-Dstyle.color=never", "compile", "exec:java", f"-Dexec.mainClass={name.title()}"),
        f"-Dexec.args={' '.join(arguments)}",
    ),
    "node": lambda name, *arguments: ("node", f"{name}.js", *arguments),
}


def check(name: str) -> Callable[[Path, LocalStack], None]:
    """The check of one language; raises Failed."""
    return lambda folder, stack: _check(name, folder, stack)


def _check(name: str, folder: Path, stack: LocalStack) -> None:
    kafka, clickhouse = stack.kafka_settings(f"{name}."), stack.clickhouse_settings(f"clients_{name}")
    write_settings(folder / "meterfold.toml", kafka, clickhouse)
    environment = {
        **os.environ,
        "METERFOLD_CONFIG": str(folder / "meterfold.toml"),
        "METERFOLD_FOLD_BATCH_SECONDS": "0.05",
        "METERFOLD_CHECKER_EMIT_INTERVAL_SECONDS": "0.5",
    }
    schemas = folder / "schemas"
    published.export(schemas)
    # The timestamps of the vectors are fixed, so events may be old.
    answer(
        *("migrate", "--partitions", str(usage_vectors.PARTITIONS)),
        *("--horizon-days", "7300", "--record-retention-days", "7400"),
        env=environment,
    )
    client = {
        **os.environ,
        "METERFOLD_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "METERFOLD_KAFKA_TOPIC_PREFIX": kafka.topic_prefix,
        "KAFKA_USERNAME": kafka.librdkafka["sasl.username"],
        "KAFKA_PASSWORD": kafka.librdkafka["sasl.password"],
    }
    command = COMMANDS[name]

    said = run(command("produce", str(schemas), str(schemas / usage_vectors.FILE)), folder, client)
    expect("100 events confirmed" in said, f"produce printed {said!r}")
    _same_bytes(kafka)
    with (
        running("fold", env=environment, folder=folder, ready="fold: ready"),
        running("check", env=environment, folder=folder, ready="check: ready"),
    ):
        answer("metric", "define", "api.calls", "--name", "API calls", "--unit", "calls", env=environment)
        answer(
            *("threshold", "create", "api.calls", "--name", "quota", "--value", "1000", "--period", "lifetime"),
            env=environment,
        )
        status = answer("status", "--wait", str(DEADLINE), env=environment)
        counts = {key: status[key] for key in ("counted", "duplicates", "rejected")}
        expect(counts == {"counted": 100, "duplicates": 0, "rejected": 0}, f"the fold says {counts}")
        eventually(lambda: len(_events(kafka, "threshold.exceeded")) > 5, DEADLINE)
        eventually(lambda: _all_emitted(kafka, clickhouse), DEADLINE)
        # One fewer than there are: a program stops in the middle of what a poll brings.
        count = sum(len(_events(kafka, topic)) for topic in ("usage.aggregated", "threshold.exceeded")) - 1
        said = run(command("consume", str(schemas), str(count)), folder, client)
        # Maven writes escape sequences around what the program prints.
        _same_events([json.loads(line[line.index("{") :]) for line in said.split("\n") if "{" in line], kafka, count)


def _same_bytes(kafka: KafkaSettings) -> None:
    topic = Topics(kafka.topic_prefix).usage_recorded
    found = Counter((m.key(), m.value(), m.partition()) for m in consume_all(kafka, topic))
    for vector in usage_vectors.stored():
        wanted = vector.key, vector.value, vector.partition
        if found[wanted] != 1:
            near = [one for one in found if vector.fields["id"].encode() in one[1]]
            expect(False, f"{vector.case}: expected {wanted}, found {near}")
    expect(found.total() == 100, f"{found.total()} messages instead of 100")


def _all_emitted(kafka: KafkaSettings, clickhouse: ClickHouseSettings) -> bool:
    """Whether the newest state of each window is there: what comes later are final events of the same states."""
    with closing(connect(clickhouse)) as client:
        rows = client.rows(
            "SELECT subject_id, metric_key, period_start, folded_through FROM usage_windows FINAL "
            "WHERE period_type = 'monthly'"
        )
    stored = {(row["subject_id"], row["metric_key"], row["period_start"], row["folded_through"]) for row in rows}
    events = [UsageAggregated.from_bytes(message.value()) for message in _events(kafka, "usage.aggregated")]
    emitted = {(event.subject_id, event.metric_key, event.period_start, event.revision) for event in events}
    return len(stored) > 50 and stored <= emitted


def _events(kafka: KafkaSettings, topic: str) -> list[Message]:
    return [message for message in consume_all(kafka, kafka.topic_prefix + topic) if message.value() is not None]


def _same_events(lines: list[dict[str, Any]], kafka: KafkaSettings, count: int) -> None:
    """Each line is one event of its topic, with the fields that the program shows."""
    expected = {}
    for topic in ("usage.aggregated", "threshold.exceeded"):
        for message in _events(kafka, topic):
            schema, record = framing.decode(message.value())
            decimals = {
                name: to_decimal(record[name])
                for name, kind in schema.fields.items()
                if kind == "decimal" and record[name] is not None
            }
            expected[topic, record["event_id"]] = {**record, **decimals}
    expect(len(lines) == count, f"{len(lines)} events instead of {count}")
    expect(len({line["event_id"] for line in lines}) == count, "an event was shown twice")
    for line in lines:
        expect(line["ce_id"] == line["event_id"], f"ce_id is not the event_id: {line}")
        wanted = expected.get((line["topic"], line["event_id"]))
        expect(wanted is not None, f"there is no such event: {line}")
        for name in line.keys() - {"topic", "ce_id"}:
            shown = Decimal(line[name]) if isinstance(wanted[name], Decimal) else line[name]
            expect(shown == wanted[name], f"{name} is {wanted[name]!r}, not {line[name]!r}: {line}")
    topics = Counter(line["topic"] for line in lines)
    expect(len(topics) == 2, f"events of both topics were expected, not {topics}")
