"""A worker whose consumer has given up for good makes another one: seen after all brokers were killed at once.

The coordinator came back without the group, librdkafka answered with a fatal error, and the workers went on polling a
client that would never have a partition again.
"""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from meterfold_processor.checker.group import CheckerGroup
from meterfold_processor.fold.worker import FoldWorker
from meterfold_processor.kafka import clients, errors
from meterfold_schemas.errors import Fatal, Retryable

GAVE_UP = KafkaError(KafkaError._FATAL, "Fatal error: Broker: The group id does not exist")
PASSING = KafkaError(KafkaError._ALL_BROKERS_DOWN, "3/3 brokers are down")


def message(error: KafkaError) -> Any:
    return SimpleNamespace(error=lambda: error, partition=lambda: 0, topic=lambda: "t", offset=lambda: -1001)


def test_a_client_that_gave_up_is_fatal_and_a_passing_error_is_not() -> None:
    assert isinstance(errors.consuming_error(GAVE_UP), Fatal)
    assert isinstance(errors.consuming_error(KafkaError(KafkaError.GROUP_ID_NOT_FOUND, "gone", fatal=True)), Fatal)
    assert isinstance(errors.consuming_error(PASSING), Retryable)


def test_the_fold_gives_its_client_up() -> None:
    worker: Any = SimpleNamespace(_assignment=SimpleNamespace(active={}))
    assert not FoldWorker._is_event(worker, message(PASSING))
    with pytest.raises(errors.GaveUp, match="left its group for good"):
        FoldWorker._is_event(worker, message(GAVE_UP))


def test_the_checker_gives_its_client_up() -> None:
    group = CheckerGroup(SimpleNamespace(), "usage.windows", lambda _: None)
    assert not group._is_message(message(PASSING))
    with pytest.raises(errors.GaveUp, match="left its group for good"):
        group._is_message(message(GAVE_UP))


def test_it_is_served_anew_until_the_end_and_other_errors_go_through() -> None:
    outcomes: list[Exception | None] = [errors.GaveUp("gone"), errors.GaveUp("gone again"), None]
    heard: list[Retryable | None] = []

    def serve() -> None:
        outcome = outcomes.pop(0)
        if outcome is not None:
            raise outcome

    clients.with_fresh_clients(serve, Event(), heard.append)
    assert outcomes == []
    assert [str(error) for error in heard] == ["gone", "None", "gone again", "None"]
    outcomes = [Fatal("the end"), None]
    with pytest.raises(Fatal, match="the end"):
        clients.with_fresh_clients(serve, Event(), heard.append)


def test_a_stop_ends_it() -> None:
    stop = Event()

    def serve() -> None:
        stop.set()
        raise errors.GaveUp("gone")

    clients.with_fresh_clients(serve, stop, lambda _: None)
