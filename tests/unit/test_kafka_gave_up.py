"""A consumer that has given up for good must end its worker: seen after all brokers were killed at once.

The coordinator came back without the group, librdkafka answered with a fatal error, and the workers went on polling a
client that would never have a partition again.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError

from meterfold_processor import kafka
from meterfold_processor.checker.group import Group
from meterfold_processor.fold.worker import FoldWorker
from meterfold_schemas.errors import Fatal, Retryable

GAVE_UP = KafkaError(KafkaError._FATAL, "Fatal error: Broker: The group id does not exist")
PASSING = KafkaError(KafkaError._ALL_BROKERS_DOWN, "3/3 brokers are down")


def message(error: KafkaError) -> Any:
    return SimpleNamespace(error=lambda: error, partition=lambda: 0, topic=lambda: "t", offset=lambda: -1001)


def test_a_client_that_gave_up_is_fatal_and_a_passing_error_is_not() -> None:
    assert isinstance(kafka.consuming_error(GAVE_UP), Fatal)
    assert isinstance(kafka.consuming_error(KafkaError(KafkaError.GROUP_ID_NOT_FOUND, "gone", fatal=True)), Fatal)
    assert isinstance(kafka.consuming_error(PASSING), Retryable)


def test_the_fold_ends() -> None:
    worker: Any = SimpleNamespace(_assignment=SimpleNamespace(active={}))
    assert not FoldWorker._is_event(worker, message(PASSING))
    with pytest.raises(Fatal, match="start the worker again"):
        FoldWorker._is_event(worker, message(GAVE_UP))


def test_the_checker_ends() -> None:
    group = Group(SimpleNamespace(), "usage.windows", lambda _: None)
    assert not group._is_message(message(PASSING))
    with pytest.raises(Fatal, match="start the worker again"):
        group._is_message(message(GAVE_UP))
