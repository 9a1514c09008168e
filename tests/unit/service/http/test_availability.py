"""What a ping says about ClickHouse: away, slow, or neither."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event

import pytest

from meterfold_processor.backoff import Troubles
from meterfold_schemas.errors import Retryable
from meterfold_service.http.availability import Availability, Unavailable

DEADLINE = 60


class Server:
    """Answers a ping when `answers` is set; accepts connections while `accepts`."""

    def __init__(self) -> None:
        self.answers = Event()
        self.accepts = True
        self.refuses = False

    def ping(self) -> None:
        if self.refuses:
            raise Retryable("refused")
        if not self.answers.wait(DEADLINE):
            raise Retryable("no answer")

    def reach(self) -> None:
        if not self.accepts:
            raise Retryable("no connection")


def watched(test: Callable[[Server, Availability, Troubles], object]) -> None:
    """Run a coroutine function beside the watch of a server whose pings are late at once."""

    async def both() -> None:
        server, errors = Server(), Troubles()
        availability = Availability(server.ping, server.reach, errors, slow_seconds=0.01)
        watching = asyncio.create_task(availability.watch())
        try:
            await test(server, availability, errors)  # type: ignore[misc]
        finally:
            server.answers.set()
            watching.cancel()
            availability.close()

    asyncio.run(both())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_late_answer_refuses_no_request_and_is_shown() -> None:
    async def test(server: Server, availability: Availability, errors: Troubles) -> None:
        await until(lambda: availability.is_slow)
        availability.check()
        assert not errors
        server.answers.set()
        await until(lambda: not availability.is_slow)
        availability.check()

    watched(test)


def test_a_server_that_accepts_no_connection_is_away_before_the_ping_gives_up_and_comes_back() -> None:
    async def test(server: Server, availability: Availability, errors: Troubles) -> None:
        server.accepts = False
        await until(availability.away.is_set)
        with pytest.raises(Unavailable):
            availability.check()
        assert errors == {"clickhouse": "no connection"}
        server.answers.set()
        await until(lambda: not availability.away.is_set())
        assert not errors

    watched(test)


def test_a_refused_ping_is_away() -> None:
    async def test(server: Server, availability: Availability, errors: Troubles) -> None:
        server.refuses = True
        server.answers.set()
        await until(availability.away.is_set)
        assert errors == {"clickhouse": "refused"}
        assert not availability.is_slow

    watched(test)
