"""What a server does beside its requests."""

from __future__ import annotations

import asyncio
from threading import Event
from types import SimpleNamespace as Made
from typing import Any

import pytest

from meterfold_schemas.settings_sources import Sources
from meterfold_service import Metering
from meterfold_service.http import server
from meterfold_service.http.server import HttpServer
from meterfold_service.http.settings import HttpSettings
from support.http_server import KEY


def test_what_is_read_again_is_read_once_a_second_and_a_stop_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = HttpServer(HttpSettings(port=0, token_key=KEY), Metering(sources=Sources({"HTTP_TOKEN_KEY": KEY}, {}, None)))
    clock, stop, refreshes, looks = Made(now=100.0), Event(), list[float](), list[float]()

    async def sleep(seconds: float) -> None:
        clock.now += seconds
        looks.append(clock.now)
        if clock.now >= 110:
            stop.set()

    async def refresh() -> None:
        refreshes.append(clock.now)

    monkeypatch.setattr(server, "time", Made(monotonic=lambda: clock.now))
    monkeypatch.setattr(server, "asyncio", Made(sleep=sleep))
    monkeypatch.setattr(made, "_refresh", refresh)
    uvicorn: Any = Made(started=True, should_exit=False)
    asyncio.run(made._watch(uvicorn, stop))
    made._socket.close()
    made._service.close()
    assert uvicorn.should_exit
    assert made.ready
    assert 10 <= len(refreshes) <= 11
    assert len(looks) >= 100
