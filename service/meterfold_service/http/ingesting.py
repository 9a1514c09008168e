"""Taking the events of a request: the body within its bounds, large ones in a thread, and then the delivery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from fastapi import Request

from meterfold_service.http.bodies import read_body
from meterfold_service.http.context import Caller

__all__ = ["QUICK_BYTES", "body_of", "taken"]

R = TypeVar("R")

QUICK_BYTES: Final = 64 * 1024
"""A larger body is read in a thread, so that other requests are answered meanwhile."""


async def body_of(request: Request, caller: Caller) -> bytes:
    """Decompressed. Raises what read_body raises."""
    settings = caller.service.settings
    return await read_body(request, most=settings.max_body_bytes, seconds=settings.body_seconds)


async def taken(caller: Caller, begin: Callable[[Callable[[], None]], R], *, in_thread: bool) -> R:
    """What `begin` returns, once each event has its report. `begin` gets what ends the wait; where it raises, nothing
    was taken. `in_thread`: it takes long, or waits."""
    waiting, on_end = caller.service.deliveries.waiter()
    found = await caller.run(begin, on_end) if in_thread else begin(on_end)
    await waiting
    return found
