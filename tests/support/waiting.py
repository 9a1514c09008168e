"""Wait for a condition, never for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE = 0.03
_MOST_PAUSE = 1.0
_PAUSE_FOR_EACH = 5
"""A probe that asks a server is repeated the more rarely the more it costs: what is waited for needs the machine."""


def eventually(probe: Callable[[], T], deadline: float = 20.0, what: str = "") -> T:
    """The first truthy value that `probe` gives; AssertionError with the last one after `deadline` seconds.

    An AssertionError inside `probe` counts as "not yet", so that a probe may assert; its message is shown at the end.
    """
    end = time.monotonic() + deadline
    while True:
        begun = time.monotonic()
        try:
            value = probe()
            if value:
                return value
            seen = repr(value)
        except AssertionError as error:
            seen = str(error)
        now = time.monotonic()
        if now > end:
            raise AssertionError(f"not within {deadline:g} s: {what or probe}; last seen: {seen}")
        time.sleep(min(max(_PAUSE, _PAUSE_FOR_EACH * (now - begun)), _MOST_PAUSE))
