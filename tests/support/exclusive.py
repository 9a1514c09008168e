"""Whose turn it is: many tests at once, or one alone with those that need no servers.

Tests run in several processes. A test whose time limits hold only on a quiet machine takes the lock for itself; every
test that needs servers shares it. A test that waits to be alone holds the gate, so that no other one begins meanwhile
and its turn comes as soon as the running ones have ended. Tests without servers keep one core busy each, which the
limits allow for: they take no turn.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_GATE: Final = Path(__file__)
_LOCK: Final = Path(__file__).with_name("waiting.py")


@contextmanager
def turn(*, alone: bool, gate: Path = _GATE, lock: Path = _LOCK) -> Iterator[None]:
    """Wait for a turn and have it. `gate` and `lock` are two files that exist; closing one releases it."""
    with lock.open("rb") as held:
        with gate.open("rb") as door:
            fcntl.flock(door, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            fcntl.flock(held, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
