"""Consumers that a test makes give up for good, as librdkafka does when a coordinator comes back without the group."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message

from meterfold_processor.kafka import clients


class Mortal(Consumer):
    """A real one until `gave_up` is set: then every poll brings a fatal error."""

    gave_up = False

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        if self.gave_up:
            return [Message(topic="t", partition=0, error=KafkaError(KafkaError._FATAL, "no such group"))]
        return super().consume(num_messages, timeout)


def mortal_members(patch: pytest.MonkeyPatch) -> list[Mortal]:
    """Members of a group that the processors make from now on, in order."""
    members: list[Mortal] = []

    class Member(Mortal):
        def subscribe(self, *arguments: Any, **options: Any) -> None:
            members.append(self)
            super().subscribe(*arguments, **options)

    patch.setattr(clients, "Consumer", Member)
    return members
