"""Whose turn it is: many tests at once, or one alone.

Tests run in several processes. What is bounded in time only on a machine that does nothing else takes the lock for
itself; every other test shares it. One that waits does not hold the others up: its turn comes when they pause or end,
and files with a single test are handed out last.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(*, alone: bool) -> Iterator[None]:
    """Wait for it and have it."""
    with Path(__file__).open("rb") as lock:  # closing it lets go
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
