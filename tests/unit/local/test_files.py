"""What a stack keeps in its data folder, and who may read it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from meterfold_local import stack_state
from meterfold_local.errors import AlreadyRunning, StackError
from meterfold_local.private_files import load_passwords, write_private
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_local.stack_state import FolderLock, ProcessInfo, StackState, describe_self
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings, load_settings
from meterfold_schemas.settings_sources import Sources
from meterfold_service.http.settings import HttpSettings


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_private_files_are_private_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_private(path, "first")
    path.chmod(0o644)
    write_private(path, "second")
    assert path.read_text() == "second"
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_passwords_are_made_once(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = load_passwords(path)
    assert load_passwords(path) == first
    assert mode(path) == 0o600
    assert len({first.kafka_broker, first.kafka_client, first.clickhouse}) == 3
    assert first.clickhouse not in repr(first)
    path.write_text("{}")
    with pytest.raises(StackError, match="not a file of passwords"):
        load_passwords(path)


def test_a_file_of_passwords_without_a_token_key_gets_one(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    write_private(path, json.dumps({"kafka_client": "a", "kafka_broker": "b", "clickhouse": "c"}))
    first = load_passwords(path)
    assert (first.kafka_client, first.kafka_broker, first.clickhouse) == ("a", "b", "c")
    assert len(first.http_token_key) == 64
    assert load_passwords(path) == first
    assert mode(path) == 0o600
    assert first.http_token_key not in repr(first)


def test_settings_read_back(tmp_path: Path) -> None:
    kafka = KafkaSettings(
        bootstrap_servers="127.0.0.1:1,127.0.0.1:2", topic_prefix="x.", librdkafka={"sasl.password": 'a"b\\c\x01é'}
    )
    clickhouse = ClickHouseSettings(url="http://127.0.0.1:3", database="other", password=SecretStr("p#\n="))
    path = tmp_path / "meterfold.toml"
    write_settings(path, kafka, clickhouse, http={"port": 8889, "token_key": 'k"' * 20})
    assert load_settings(HttpSettings, "http", sources=Sources.read(config=path, environ={})).port == 8889
    assert KafkaSettings.load(config=path, environ={}) == kafka
    assert ClickHouseSettings.load(config=path, environ={}) == clickhouse
    assert mode(path) == 0o600


def test_a_folder_has_one_supervisor(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.acquire()
    with pytest.raises(AlreadyRunning, match="still starting"):
        second.acquire()
    stack_state.write_state(tmp_path, StackState(describe_self(), (), "127.0.0.1:9092", "http://127.0.0.1:8123"))
    with pytest.raises(AlreadyRunning, match=r"pid \d+, Kafka 127.0.0.1:9092"):
        LocalStack(tmp_path).start()
    first.release()
    second.acquire()
    second.release()


def test_a_stale_state_is_recognised_and_its_processes_ended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        left = ProcessInfo.of("left over", child.pid)
        stranger = ProcessInfo("reused pid", describe_self().pid, describe_self().created - 60)
        gone = ProcessInfo("supervisor", describe_self().pid, describe_self().created - 60)
        stack_state.write_state(tmp_path, StackState(gone, (left, stranger), "", ""))
        assert stack_state.read_state(tmp_path) is not None
        assert stack_state.running_stack(tmp_path) is None
        assert stack_state.end_leftovers(tmp_path) == [left]
        # (psutil has waited for it, so its exit status is gone)
        assert not left.alive
    assert not (tmp_path / stack_state.STATE_FILE).exists()
    assert stack_state.end_leftovers(tmp_path) == []


def test_a_running_stack_is_found(tmp_path: Path) -> None:
    state = StackState(describe_self(), (), "127.0.0.1:9092", "http://127.0.0.1:8123")
    stack_state.write_state(tmp_path, state)
    assert stack_state.running_stack(tmp_path) == state
    (tmp_path / stack_state.STATE_FILE).write_text("{")
    assert stack_state.running_stack(tmp_path) is None
