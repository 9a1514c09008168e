"""Brokers as a run wants them: a member that went silent is replaced after three seconds, not six."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from meterfold_local.kafka import broker
from meterfold_local.kafka.config import BrokerConfig, server_properties

_MORE = "group.consumer.session.timeout.ms=3000\n"
_usual = server_properties


@contextmanager
def quick() -> Iterator[None]:
    """For stacks that start within."""

    def properties(config: BrokerConfig) -> str:
        return _usual(config) + _MORE  # of two lines the later one counts

    with mock.patch.object(broker, "server_properties", properties):
        yield
