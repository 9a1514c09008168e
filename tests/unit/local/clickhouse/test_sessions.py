"""Sessions: how long they live, and requests that follow each other closely."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.request import SessionRequest
from meterfold_local.clickhouse.sessions import Sessions


class FakeConnection:
    closed = False

    def close(self) -> None:
        self.closed = True


def test_session_times_out_after_its_last_use() -> None:
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    wish = SessionRequest("s", 10, False, False)
    connection = FakeConnection()
    with sessions.lease(wish) as session:
        session.connection = connection  # type: ignore[assignment]
        now[0] = 100
    now[0] = 109
    with sessions.lease(wish) as again:
        assert again is session
    now[0] = 119
    with pytest.raises(QueryError) as gone, sessions.lease(SessionRequest("s", 10, True, False)):
        pass
    assert gone.value.code == 372
    assert (len(sessions), connection.closed) == (0, True)


def test_session_is_locked_while_in_use() -> None:
    sessions = Sessions()
    wish = SessionRequest("s", 10, False, False)
    with sessions.lease(wish):
        with pytest.raises(QueryError) as busy, sessions.lease(wish):
            pass
        assert busy.value.code == 373
    with sessions.lease(wish):
        pass


def test_session_can_be_closed_by_its_last_request() -> None:
    sessions = Sessions()
    connection = FakeConnection()
    with sessions.lease(SessionRequest("s", 10, False, True)) as session:
        session.connection = connection  # type: ignore[assignment]
    assert (len(sessions), connection.closed) == (0, True)


def test_a_session_that_ends_while_the_next_request_waits_for_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()

    class Told(threading.Condition):
        def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
            waiting.set()  # the lock is held: who comes after this finds a request that waits
            return super().wait_for(predicate, timeout)

    monkeypatch.setattr(threading, "Condition", Told)
    sessions = Sessions(lambda: 0.0)

    def follow() -> None:
        with sessions.lease(SessionRequest("short", timeout=60, must_exist=True, close=False)):
            pass

    with ThreadPoolExecutor(1) as pool:
        with sessions.lease(SessionRequest("short", timeout=0, must_exist=False, close=False)):
            waiting.clear()
            next_one = pool.submit(follow)
            assert waiting.wait(10)
        with pytest.raises(QueryError) as refused:
            next_one.result(10)
    assert refused.value.code == 372
    assert len(sessions) == 0
