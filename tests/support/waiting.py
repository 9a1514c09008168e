"""Wait for a condition, never for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(probe: Callable[[], T], deadline: float = 20.0, what: str = "") -> T:
    """The first truthy value that `probe` gives; AssertionError with the last one after `deadline` seconds.

    An AssertionError inside `probe` counts as "not yet", so that a probe may assert; its message is shown at the end.
    """
    end = time.monotonic() + deadline
    while True:
        try:
            value = probe()
            if value:
                return value
            seen = repr(value)
        except AssertionError as error:
            seen = str(error)
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what or probe}; last seen: {seen}")
        time.sleep(0.03)
