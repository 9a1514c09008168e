"""Who is fenced again and again shares its slot with another checker, or stood still in its transactions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from meterfold_processor.checker import transactions
from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.checker.transactions import TRANSACTION_TIMEOUT_SECONDS, FencedOut, Transactions
from meterfold_processor.checker.worker import CheckerWorker
from meterfold_schemas.errors import Fatal
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings

KAFKA = KafkaSettings(bootstrap_servers="127.0.0.1:1")


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(transactions, "time", made)
    return made


@pytest.fixture
def worker(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    made: Any = CheckerWorker(CheckerSettings(), KAFKA, ClickHouseSettings(url="http://127.0.0.1:1"))
    made._transactions = Transactions(KAFKA, "slot-0")
    made._transactions._producer = SimpleNamespace(
        begin_transaction=lambda: None, purge=lambda: None, flush=lambda seconds: 0
    )
    monkeypatch.setattr(made._transactions, "reset", lambda: None)
    monkeypatch.setattr(made, "_start_again", lambda error: None)
    return made


def test_a_checker_that_stood_still_longer_than_its_transactions_last_goes_on(worker: Any, clock: Clock) -> None:
    for _ in range(5):
        worker._transactions.begin()
        clock.now += TRANSACTION_TIMEOUT_SECONDS + 1
        worker._fenced(FencedOut("fenced by the timeout"))


def test_a_checker_that_is_fenced_in_time_twice_ends(worker: Any, clock: Clock) -> None:
    worker._transactions.begin()
    clock.now += 1
    worker._fenced(FencedOut("fenced by another"))
    worker._transactions.begin()
    with pytest.raises(Fatal, match="METERFOLD_CHECKER_SLOT, here 0"):
        worker._fenced(FencedOut("fenced by another"))
