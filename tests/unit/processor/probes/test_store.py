"""The check of the store, with the store and the waiting in the hands of the test."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

from meterfold_processor.backoff import Troubles
from meterfold_processor.probes.store import AGAIN_SECONDS, EVERY_SECONDS, StoreCheck
from meterfold_schemas.errors import Fatal, MeterfoldError, Retryable


class Script(Event):
    """Stops when the answers are used up; notes what was shown and how long was waited after each."""

    def __init__(self, answers: list[MeterfoldError | None]) -> None:
        super().__init__()
        self.troubles = Troubles()
        self.seen: list[tuple[str | None, float | None]] = []
        self._answers: Iterator[MeterfoldError | None] = iter(answers)
        self._left = len(answers)

    def ask(self) -> None:
        error = next(self._answers)
        self._left -= 1
        if error is not None:
            raise error

    def wait(self, timeout: float | None = None) -> bool:
        self.seen.append((self.troubles.get("store"), timeout))
        if not self._left:
            self.set()
        return self.is_set()


def test_trouble_shows_until_the_store_answers_and_is_looked_at_more_often() -> None:
    down = Retryable("ClickHouse could not be reached")
    script = Script([None, down, down, Fatal("wrong password"), None])
    StoreCheck(script.ask, script.troubles.of("store")).run(script)
    assert script.seen == [
        (None, EVERY_SECONDS),
        (str(down), AGAIN_SECONDS),
        (str(down), AGAIN_SECONDS),
        ("wrong password", AGAIN_SECONDS),
        (None, EVERY_SECONDS),
    ]


def test_it_asks_nothing_once_it_is_stopped() -> None:
    script = Script([None])
    script.set()
    StoreCheck(script.ask, script.troubles.of("store")).run(script)
    assert script.seen == []
