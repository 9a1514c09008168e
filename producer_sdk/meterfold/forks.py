"""What a forked child has to make for itself: locks that another thread may have held, entropy, producers."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["renew_after_fork"]


class _Renewed(Protocol):
    def after_fork(self) -> None: ...


_living: weakref.WeakSet[_Renewed] = weakref.WeakSet()


def renew_after_fork(thing: _Renewed) -> None:
    """Call `thing.after_fork()` in every child forked while it lives, before anything else runs there."""
    _living.add(thing)


def _in_child() -> None:
    for thing in list(_living):
        thing.after_fork()


os.register_at_fork(after_in_child=_in_child)
