"""An installation on servers of its own, its workers under one address each, and what can be done to them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, Producer

from meterfold_local.ports import choose_port
from meterfold_local.process import ManagedProcess
from meterfold_local.stack import LocalStack
from meterfold_schemas.topics import Topics
from meterfold_service import Metering
from support import consume_all, eventually
from support.receivers import SECRET, Endpoint, Mailbox

__all__ = ["BACKUPS", "PARTITIONS", "Scene"]

PARTITIONS = 4
BACKUPS = "disk:backups/alerts"
READY_SECONDS = 180.0
_WORKERS = ("fold", "check", "notify")


class Scene:
    """`endpoint` and `mailbox` are where notifications go."""

    def __init__(self, stack: LocalStack, folder: Path, endpoint: Endpoint, mailbox: Mailbox) -> None:
        self.stack = stack
        self.topics = Topics("")
        self.kafka = stack.kafka_settings()
        self.endpoint = endpoint
        self.config = Path(stack.environment()["METERFOLD_CONFIG"])
        self.metering = Metering(kafka=self.kafka, clickhouse=stack.clickhouse_settings(), wait_seconds=60)
        self.ports = {name: choose_port(0) for name in _WORKERS}
        self.scrapes: Callable[[], int] = lambda: 0
        self._folder = folder
        self._starts = 0
        self._processes: dict[str, ManagedProcess] = {}
        self._environment = {
            **stack.environment(),
            "METERFOLD_FOLD_BATCH_SECONDS": "0.1",
            "METERFOLD_BACKUP_DESTINATION": BACKUPS,
            "METERFOLD_NOTIFY_SMTP_HOST": mailbox.host,
            "METERFOLD_NOTIFY_SMTP_PORT": str(mailbox.port),
            "METERFOLD_NOTIFY_SMTP_SECURITY": "none",
            "METERFOLD_NOTIFY_WEBHOOK_SECRETS": SECRET,
            "METERFOLD_NOTIFY_WEBHOOK_PORTS": str(endpoint.port),
            "METERFOLD_NOTIFY_ALLOW_HTTP": "true",
            "METERFOLD_NOTIFY_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        self.producer = Producer(self.kafka.client(**{"linger.ms": 5, "compression.type": "lz4"}))

    # Workers

    def start(self, *names: str, wait: bool = True) -> None:
        for name in names:
            self._starts += 1
            log = self._folder / f"{self._starts:02}-{name}.log"
            env = {**self._environment, "METERFOLD_HEALTH_ADDRESS": f"127.0.0.1:{self.ports[name]}"}
            process = ManagedProcess(name, [sys.executable, "-m", "meterfold_cli", name], log, env=env)
            process.start()
            self._processes[name] = process
        for name in names if wait else ():
            self._processes[name].wait_for_line(f"{name}: ready", READY_SECONDS)

    def kill(self, *names: str) -> None:
        for name in names:
            self._processes.pop(name).kill()

    def close(self) -> None:
        self.kill(*list(self._processes))
        self.metering.close()

    def command(self, *words: str) -> None:
        """A command of `meterfold`; AssertionError if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "meterfold_cli", *words],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"meterfold {' '.join(words)}: {done.stdout}{done.stderr}"

    def wait_scraped(self, times: int) -> None:
        """Until every worker was scraped this many times more."""
        before = self.scrapes()
        eventually(lambda: self.scrapes() >= before + times, READY_SECONDS, "the workers are scraped")

    # Messages

    def send(self, topic: str, value: bytes | None, key: bytes | None = None, partition: int = -1) -> None:
        self.send_many(topic, value, 1, key, partition)

    def send_many(
        self, topic: str, value: bytes | None, count: int, key: bytes | None = None, partition: int = -1
    ) -> None:
        failed: list[Any] = []

        def report(error: Any, _message: Any) -> None:
            if error is not None:
                failed.append(error)

        for _ in range(count):
            while True:
                try:
                    self.producer.produce(topic, value, key, partition, on_delivery=report)
                    break
                except BufferError:
                    self.producer.poll(0.1)
        assert self.producer.flush(120) == 0
        assert not failed, failed[0]

    def published_window(self) -> Message:
        """A message of usage.windows."""
        return next(one for one in consume_all(self.kafka, self.topics.usage_windows) if len(one.value() or b"") > 500)

    @contextmanager
    def open_transaction(self, topic: str) -> Iterator[None]:
        """A transaction of someone else on every partition of a topic, which ends with an abort."""
        settings = {"transactional.id": "someone-else", "transaction.timeout.ms": 600_000}
        producer = Producer(self.kafka.client(**settings))
        producer.init_transactions(30)
        producer.begin_transaction()
        for partition in range(PARTITIONS):
            producer.produce(topic, b"open", b"key", partition)
        producer.flush(30)
        try:
            yield
        finally:
            producer.abort_transaction(30)

    @contextmanager
    def group_member(self, group: str, topic: str) -> Iterator[Consumer]:
        """Another application that has chosen the name of this group. Poll it to keep it a member."""
        settings: Mapping[str, Any] = {"group.id": group, "group.protocol": "consumer", "enable.auto.commit": False}
        consumer = Consumer(self.kafka.client(**settings))
        consumer.subscribe([topic])
        try:
            yield consumer
        finally:
            consumer.close()
