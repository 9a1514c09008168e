"""An iterator whose next item is made while the caller is busy with the one before."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

__all__ = ["read_ahead"]

T = TypeVar("T")


def read_ahead(pieces: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same items; one is taken from `pieces` ahead of the caller, on another thread.

    For rows that ClickHouse sends: it stops working when what it has sent is not read. What `pieces` uses must not be
    used by the caller until the last item has come. What it raises is raised here, after the items before. When this is
    closed, so is `pieces`, after the item that it is making.
    """
    with closing(pieces), ThreadPoolExecutor(1, "meterfold-read") as reader:
        coming = reader.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = reader.submit(next, pieces, None)
            yield piece
