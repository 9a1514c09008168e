"""The deliberately broken variants of the simulations, put into real workers: each must be caught."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def fold(name: str | None) -> Iterator[None]:
    """The rule that the variant breaks is broken in this process."""
    yield


@contextmanager
def checker(name: str | None, drive: Any) -> Iterator[Any]:
    """The same for a checker; the drive to use."""
    yield drive
