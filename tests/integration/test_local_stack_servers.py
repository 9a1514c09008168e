"""The stack as users start it: what it lets in, what it keeps, what it refuses."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from meterfold_local.errors import AlreadyRunning, StackError
from meterfold_local.stack import LocalStack
from meterfold_local.stack_state import running_stack
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from support import consume_all, create_topics, producer
from support.clickhouse import http_query
from support.kafka import admin

MESSAGES = 2000


def produce(settings: KafkaSettings, topic: str, first: int, count: int) -> set[bytes]:
    """Send numbered messages; returns those that the broker acknowledged."""
    acknowledged: set[bytes] = set()
    client = producer(settings)
    for number in range(first, first + count):
        client.produce(
            topic,
            str(number).encode(),
            on_delivery=lambda error, message: error or acknowledged.add(message.value()),
        )
        client.poll(0)
    assert client.flush(30) == 0
    return acknowledged


def numbers(first: int, count: int) -> set[bytes]:
    return {str(number).encode() for number in range(first, first + count)}


def test_messages_go_through_with_sasl(kafka_settings: KafkaSettings) -> None:
    (topic,) = create_topics(kafka_settings, "numbers", partitions=3)
    assert produce(kafka_settings, topic, 0, MESSAGES) == numbers(0, MESSAGES)
    assert {message.value() for message in consume_all(kafka_settings, topic)} == numbers(0, MESSAGES)


@pytest.mark.parametrize("wrong", [{"sasl.password": "wrong"}, {"sasl.username": "broker"}, {}])
def test_a_wrong_password_is_refused(stack: LocalStack, wrong: dict[str, str]) -> None:
    plain = {} if wrong else {"security.protocol": "PLAINTEXT"}
    errors: list[str] = []
    settings = stack.kafka_settings().client(**wrong, **plain)
    client = AdminClient({**settings, "error_cb": lambda error: errors.append(error.name())})
    with pytest.raises(KafkaException):
        client.list_topics(timeout=2)
    client.poll(0)
    assert plain or "_AUTHENTICATION" in errors


def test_clickhouse_refuses_a_wrong_password(stack: LocalStack) -> None:
    settings = stack.clickhouse_settings()
    assert http_query(settings, "SELECT 40 + 2") == "42\n"
    with pytest.raises(AssertionError, match="HTTP 401"):
        http_query(settings, "SELECT 1", password="wrong")


def test_servers_listen_on_loopback_alone(stack: LocalStack) -> None:
    pids = [broker.process.pid for broker in stack.kafka.brokers] + [stack.clickhouse.process.pid]
    for pid in pids:
        listening = [c.laddr.ip for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert listening
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_no_secret_in_command_lines_or_logs(stack: LocalStack) -> None:
    secrets = [
        stack.kafka_settings().librdkafka["sasl.password"],
        stack.clickhouse_settings().password.get_secret_value(),
    ]
    pids = [broker.process.pid for broker in stack.kafka.brokers] + [stack.clickhouse.process.pid]
    commands = " ".join(" ".join(psutil.Process(pid).cmdline()) for pid in pids)
    logs = {path: path.read_text(errors="replace") for path in stack.logs.iterdir()}
    assert any("Kafka Server started" in text for text in logs.values())
    for secret in secrets:
        assert secret not in commands
        assert not [path for path, text in logs.items() if secret in text]
    files = [Path(folder, name) for folder, _, names in os.walk(stack.data_dir) for name in names]
    for path in files:
        with suppress(FileNotFoundError):  # both servers delete files meanwhile
            if path.stat().st_mode & 0o077:
                content = path.read_bytes()
                assert not any(secret.encode() in content for secret in secrets), path


def test_every_client_finds_the_stack_by_its_settings_file(stack: LocalStack) -> None:
    kafka = KafkaSettings.load(config=stack.config_file, environ={})
    assert admin(kafka).list_topics(timeout=30).brokers.keys() == {1}
    clickhouse = ClickHouseSettings.load(config=stack.config_file, environ={})
    assert http_query(clickhouse, "SELECT 1") == "1\n"
    assert stack.config_file.stat().st_mode & 0o777 == 0o600
    state = running_stack(stack.data_dir)
    assert state is not None
    assert state.supervisor.pid == os.getpid()
    assert state.bootstrap_servers == kafka.bootstrap_servers


def test_a_second_start_is_refused(stack: LocalStack) -> None:
    with pytest.raises(AlreadyRunning, match=str(os.getpid())):
        LocalStack(stack.data_dir).start()
    assert http_query(stack.clickhouse_settings(), "SELECT 1") == "1\n"


def test_restarts_and_kills_keep_what_was_acknowledged(make_stack: Callable[..., LocalStack], tmp_path: Path) -> None:
    """kill -9 of both servers, then a clean restart: same cluster, same ports, every row and message."""
    stack = make_stack(data_dir=tmp_path / "data")
    settings, clickhouse = stack.kafka_settings("t."), stack.clickhouse_settings()
    cluster_id = admin(settings).list_topics(timeout=30).cluster_id
    (topic,) = create_topics(settings, "numbers", partitions=2)
    assert produce(settings, topic, 0, MESSAGES) == numbers(0, MESSAGES)
    http_query(clickhouse, "CREATE DATABASE kept")
    http_query(clickhouse, "CREATE TABLE kept.numbers (n Int64) ENGINE = MergeTree ORDER BY n")
    http_query(clickhouse, "INSERT INTO kept.numbers SETTINGS async_insert=0 SELECT number FROM numbers(1000)")

    stack.kafka.broker(1).kill()
    stack.clickhouse.kill()
    stack.kafka.restart(1)
    stack.clickhouse.restart()
    assert {message.value() for message in consume_all(settings, topic)} == numbers(0, MESSAGES)
    assert http_query(clickhouse, "SELECT count() FROM kept.numbers") == "1000\n"
    assert produce(settings, topic, MESSAGES, 100) == numbers(MESSAGES, 100)

    stack.stop()
    assert not stack.config_file.exists()
    assert running_stack(stack.data_dir) is None
    again = make_stack(data_dir=tmp_path / "data")
    assert again.kafka_settings("t.") == settings
    assert again.clickhouse_settings() == clickhouse
    assert admin(settings).list_topics(timeout=30).cluster_id == cluster_id
    assert {message.value() for message in consume_all(settings, topic)} == numbers(0, MESSAGES + 100)
    assert http_query(clickhouse, "SELECT sum(n) FROM kept.numbers") == "499500\n"
    again.stop()
    with pytest.raises(StackError, match="made for 1 broker"):
        make_stack(data_dir=tmp_path / "data", brokers=3)


def test_a_server_that_dies_is_reported_with_its_log(own_stack: LocalStack) -> None:
    own_stack.check()
    own_stack.kafka.broker(1).process.signal(signal.SIGTERM)
    own_stack.kafka.broker(1).process.wait(20)
    with pytest.raises(StackError, match=r"(?s)Kafka broker 1 ended with status 143.*Metrics reporters closed"):
        own_stack.check()
