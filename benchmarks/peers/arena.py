"""The servers that all peers share, the two topics with the same events, and one database per run."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from confluent_kafka.admin import AdminClient, NewTopic

import backlog
import meterfold_schemas
from meterfold_local.errors import StackError
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_sink.client import Client, connect
from peers import windows
from peers.contestants import FOLDER, Peer

PARTITIONS = 4
SCHEMA = Path(meterfold_schemas.__file__).parent / "avro" / "plain" / "usage_recorded.v1.avsc"
"""Without logical types, which slow fastavro down."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run reads and writes. `state` is a folder of its own for the peer."""

    kafka: KafkaSettings
    clickhouse: ClickHouseSettings
    config: Path
    state: Path
    run: str

    @property
    def topic(self) -> str:
        return Topics(self.kafka.topic_prefix).usage_recorded

    def environment(self, wire_format: str) -> Mapping[str, str]:
        """What a program of a peer is given."""
        login = self.kafka.librdkafka
        return {
            "PEER_BOOTSTRAP": self.kafka.bootstrap_servers,
            "PEER_USERNAME": str(login["sasl.username"]),
            "PEER_PASSWORD": str(login["sasl.password"]),
            "PEER_TOPIC": self.topic,
            "PEER_FORMAT": wire_format,
            "PEER_GROUP": self.run,
            "PEER_OUTPUT": f"{self.run}-windows",
            "PEER_STATE": str(self.state),
            "PEER_SCHEMA": str(SCHEMA),
            "PYTHONPATH": str(FOLDER / "python"),
            "PEER_CLICKHOUSE_URL": self.clickhouse.url,
            "PEER_CLICKHOUSE_USER": self.clickhouse.username,
            "PEER_CLICKHOUSE_PASSWORD": self.clickhouse.password.get_secret_value(),
            "PEER_CLICKHOUSE_DATABASE": self.clickhouse.database,
            "METERFOLD_CONFIG": str(self.config),
            "METERFOLD_FOLD_GROUP_ID": self.run,
        }


class Arena:
    """A local stack with one backlog, started when it is first needed and again after `close`."""

    def __init__(self, name: str, events: int, seed: int) -> None:
        self.name = name
        self.made = backlog.make(name, int(time.time() * 1e6), seed, events)
        self.expected: pl.DataFrame = backlog.expected_windows(self.made)
        self.counted = self.made.counted().height
        self._folder: Path | None = None
        self._stack: LocalStack | None = None
        self._sent: set[str] = set()
        self._runs = 0

    @property
    def stack(self) -> LocalStack:
        if self._stack is None:
            self._folder = Path(tempfile.mkdtemp(prefix="meterfold-peers-"))
            stack = LocalStack(self._folder, kafka_port=0, clickhouse_port=0)
            stack.start()
            self._stack = stack
        return self._stack

    @property
    def running(self) -> bool:
        """Whether the servers were started."""
        return self._stack is not None

    def place(self, peer: Peer, wire_format: str) -> Place:
        """A database of its own, and the topic of this format, written when it is first asked for."""
        self._runs += 1
        run = f"{self.name}_{peer.name}_{wire_format}_{self._runs}"
        stack = self.stack
        kafka, clickhouse = stack.kafka_settings(f"{self.name}.{wire_format}."), stack.clickhouse_settings(run)
        place = Place(kafka, clickhouse, stack.data_dir / f"{run}.toml", stack.data_dir / "state" / run, run)
        place.state.mkdir(parents=True)
        write_settings(place.config, kafka, clickhouse)
        migrate_all(kafka, clickhouse, MigrationOptions(partition_count=PARTITIONS))
        if peer.programs:
            with connect(clickhouse) as client:
                windows.create(client)
            # Kept for ever: the times of the records are event times, which retention would find old.
            topic = NewTopic(f"{run}-windows", PARTITIONS, 1, config={"retention.ms": "-1"})
            admin = self._admin()  # it must live until its answers are there
            for created in admin.create_topics([topic]).values():
                created.result()
        if wire_format not in self._sent:
            backlog.send(self.made, kafka, PARTITIONS, json=wire_format == "json")
            self._sent.add(wire_format)
        return place

    def leave(self, place: Place) -> None:
        """Remove what a run has left: its rows, its topics and its state."""
        with connect(place.clickhouse) as client:
            client.command(f"DROP DATABASE IF EXISTS `{place.clickhouse.database}`")
        admin = self._admin()
        own = [topic for topic in admin.list_topics(timeout=30).topics if place.run in topic]
        if own:
            for deleted in admin.delete_topics(own).values():
                deleted.result()
        shutil.rmtree(place.state, ignore_errors=True)

    def _admin(self) -> AdminClient:
        return AdminClient(self.stack.kafka_settings().client())

    def done(self, peer: Peer, client: Client) -> bool:
        """Whether everything is in ClickHouse."""
        events = len(self.made.key)
        if not peer.windows:
            return windows.copied(client, events)
        return windows.complete(client, self.counted) if peer.programs else windows.folded(client, events)

    def problem(self, peer: Peer, client: Client) -> str:
        """What differs from the oracle; empty if nothing does."""
        if not peer.windows:
            found = client.value("SELECT toInt64(uniqExact(partition, offset)) FROM usage_records")
            return "" if found == len(self.made.key) else f"{found} of {len(self.made.key)} rows were copied"
        table = "windows" if peer.programs else "usage_windows"
        return windows.differences(windows.stored_windows(client, table), self.expected)

    def close(self) -> None:
        """Stop the servers and remove their data. A server that has failed already is no reason to stop here."""
        try:
            if self._stack is not None:
                self._stack.stop()
        except StackError:
            pass
        finally:
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._stack, self._folder, self._sent = None, None, set()
