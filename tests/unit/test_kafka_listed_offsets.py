"""An answer of `list_offsets` without an offset is no end of a log: seen when brokers were killed.

librdkafka called it a success. The commands then read nothing of the definitions and said that a metric was missing; a
checker would have read nothing of its state and emitted everything again.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from meterfold_processor import kafka, topics
from meterfold_processor.checker.driver import Driver
from meterfold_processor.checker.topic_reader import Place
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import KafkaSettings

NO_OFFSET = -1001
SETTINGS = KafkaSettings(bootstrap_servers="nowhere:1")


class Admin:
    """Answers every question with one offset."""

    def __init__(self, offset: int) -> None:
        self._answer = SimpleNamespace(offset=offset)

    def list_offsets(self, asked: Any, **_: Any) -> Any:
        return dict.fromkeys(asked, SimpleNamespace(result=lambda _: self._answer))

    def answer(self, future: Any, _: str) -> Any:
        return future.result(0)


def test_an_answer_needs_an_offset() -> None:
    assert kafka.listed_offset(SimpleNamespace(offset=0), "asking") == 0
    with pytest.raises(Retryable, match="no offset"):
        kafka.listed_offset(SimpleNamespace(offset=NO_OFFSET), "asking")


def test_bounds_of_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_Admin", lambda _: Admin(3))
    assert topics.log_bounds(SETTINGS, "t", [0]) == {0: (3, 3)}
    monkeypatch.setattr(topics, "_Admin", lambda _: Admin(NO_OFFSET))
    with pytest.raises(Retryable, match="no offset"):
        topics.log_bounds(SETTINGS, "t", [0])
    with pytest.raises(Retryable, match="no offset"):
        topics.offsets_at(SETTINGS, "t", [0], 1)
    monkeypatch.setattr(topics, "_Admin", lambda _: Admin(-1))
    assert topics.offsets_at(SETTINGS, "t", [0], 1) == {0: None}


def test_the_checker_does_not_take_it_for_an_end() -> None:
    driver: Any = SimpleNamespace(_admin=Admin(7), _new_admin=lambda: None)
    place = Place("threshold.state", 0)
    assert Driver._offsets(driver, [place], None) == {place: 7}
    driver._admin = Admin(NO_OFFSET)
    with pytest.raises(Retryable, match="no offset"):
        Driver._offsets(driver, [place], None)
