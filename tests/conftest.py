"""Fixtures for all tests.

Tests find nothing by accident: METERFOLD_ variables are removed, the working directory is empty, and below tests/unit
and tests/simulation no connection can be opened.

On the real stack (the marker `stack` is set by itself):
    stack                ONE LocalStack for the whole run, started by the first test that needs it; never harm it
    topic_prefix         this test's own prefix; its topics are deleted afterwards
    kafka_settings       KafkaSettings of the shared stack with that prefix
    clickhouse_settings  ClickHouseSettings of the shared stack with a database of this test's own, without tables
    tables               the same database has all tables already, which saves two seconds (and stores no rules)
    settings_file        both as a meterfold.toml, and
    stack_environment    the environment for a child process that is to find it
    own_stack            a LocalStack for this test alone, to kill and restart things in
    make_stack           makes more of those: make_stack(brokers=3), make_stack(data_dir=...), started

Tests run in several processes at once. One that is marked `alone` shares the machine with tests without servers only.
"""

from __future__ import annotations

import gc
import itertools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from meterfold_local.kafka.java import OPTIONS_VARIABLE
from meterfold_local.stack import LocalStack
from meterfold_local.stack_settings import write_settings
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.settings_sources import LOCAL_KAFKA, PREFIX
from support import seeds
from support.clickhouse import http_query
from support.databases import migrated_database
from support.denied_network import deny
from support.exclusive import turn
from support.kafka import delete_topics
from support.order import place, without_servers

STACK_FIXTURES = {"stack", "own_stack", "make_stack"}

# How long an example takes says nothing on a machine that others use too.
hypothesis.settings.register_profile(
    "meterfold", deadline=None, derandomize=not seeds.NEW, max_examples=500 if seeds.NEW else 30
)
hypothesis.settings.load_profile("meterfold")

# Broken bodies make polars panic, by the thousand in these tests; a backtrace for each would cost more than the tests.
os.environ["RUST_BACKTRACE"] = "0"

# Brokers live for minutes here: the compiler that optimizes for longer would take a third of their CPU.
os.environ.setdefault(OPTIONS_VARIABLE, "-XX:TieredStopAtLevel=1")

_numbers = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if STACK_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("stack")
        if not without_servers(item.path) or item.get_closest_marker("loopback"):
            # Connections break with servers and threads that are killed; their sockets close when they are collected.
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
    # With `--dist loadfile --no-loadscope-reorder` this is the order in which processes take files.
    items.sort(key=lambda item: place(item.path, alone=_alone(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    with nullcontext() if without_servers(item.path) else turn(alone=_alone(item)):
        return (yield)


def _alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.fixture(scope="module", autouse=True)
def _collected(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a file with servers leaves is collected in its own last test, not in somebody else's."""
    yield
    if not without_servers(request.path) or "notify" in request.path.parts:
        gc.collect()


@pytest.fixture(scope="session")
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(autouse=True)
def _nothing_by_accident(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _empty_folder: Path) -> None:
    given = [name for name in os.environ if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in LOCAL_KAFKA]
    for name in given:
        monkeypatch.delenv(name)
    monkeypatch.chdir(_empty_folder)
    if without_servers(request.path) and request.node.get_closest_marker("loopback") is None:
        deny(monkeypatch)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with LocalStack(tmp_path_factory.mktemp("stack"), kafka_port=0, clickhouse_port=0) as running:
        yield running


@pytest.fixture
def topic_prefix(stack: LocalStack) -> Iterator[str]:
    prefix = f"t{next(_numbers)}-{secrets.token_hex(3)}."
    yield prefix
    delete_topics(stack.kafka_settings(prefix))


@pytest.fixture
def kafka_settings(stack: LocalStack, topic_prefix: str) -> KafkaSettings:
    return stack.kafka_settings(topic_prefix)


@pytest.fixture
def tables() -> None:
    """Asked for by name, before or after `clickhouse_settings`."""


@pytest.fixture
def clickhouse_settings(stack: LocalStack, request: pytest.FixtureRequest) -> Iterator[ClickHouseSettings]:
    if "tables" in request.fixturenames:
        failed = request.session.testsfailed
        with migrated_database(stack, lambda: request.session.testsfailed == failed) as settings:
            yield settings
        return
    settings = stack.clickhouse_settings(f"test_{next(_numbers)}_{secrets.token_hex(3)}")
    http_query(settings, f"CREATE DATABASE {settings.database}")
    yield settings
    http_query(settings, f"DROP DATABASE IF EXISTS {settings.database}")


@pytest.fixture
def settings_file(tmp_path: Path, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings) -> Path:
    path = tmp_path / "settings" / "meterfold.toml"
    write_settings(path, kafka_settings, clickhouse_settings)
    return path


@pytest.fixture
def stack_environment(stack: LocalStack, settings_file: Path) -> dict[str, str]:
    return {**stack.environment(), "METERFOLD_CONFIG": str(settings_file)}


@pytest.fixture
def make_stack(tmp_path: Path) -> Iterator[Callable[..., LocalStack]]:
    made: list[LocalStack] = []

    def make(**arguments: Any) -> LocalStack:
        arguments = {"data_dir": tmp_path / f"stack-{len(made)}", "kafka_port": 0, "clickhouse_port": 0, **arguments}
        stack = LocalStack(**arguments)
        stack.start()
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.stop()


@pytest.fixture
def own_stack(make_stack: Callable[..., LocalStack]) -> LocalStack:
    return make_stack()
