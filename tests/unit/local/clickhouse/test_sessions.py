"""Sessions whose requests follow each other closely."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.request import SessionWish
from meterfold_local.clickhouse.sessions import Sessions


def test_a_session_that_ends_while_the_next_request_waits_for_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()

    class Told(threading.Condition):
        def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
            waiting.set()  # the lock is held: who comes after this finds a request that waits
            return super().wait_for(predicate, timeout)

    monkeypatch.setattr(threading, "Condition", Told)
    sessions = Sessions(lambda: 0.0)

    def follow() -> None:
        with sessions.lease(SessionWish("short", timeout=60, must_exist=True, close=False)):
            pass

    with ThreadPoolExecutor(1) as pool:
        with sessions.lease(SessionWish("short", timeout=0, must_exist=False, close=False)):
            waiting.clear()
            next_one = pool.submit(follow)
            assert waiting.wait(10)
        with pytest.raises(QueryError) as refused:
            next_one.result(10)
    assert refused.value.code == 372
    assert len(sessions) == 0
