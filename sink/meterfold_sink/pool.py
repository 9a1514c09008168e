"""Connections that several threads share, each in use by one of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["ClientPool"]


class ClientPool:
    """Opens a connection with `open_client` where none is free, and keeps it for the next use. For any thread."""

    def __init__(self, open_client: Callable[[], Client]) -> None:
        self._open = open_client
        self._free: list[Client] = []
        self._lock = Lock()
        self._closed = False

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A connection for the block. One whose block raises is closed: an answer may be half read."""
        with self._lock:
            client = self._free.pop() if self._free else None
        client = client or self._open()
        try:
            yield client
        except BaseException:
            client.close()
            raise
        with self._lock:
            if not self._closed:
                self._free.append(client)
                return
        client.close()

    def close(self) -> None:
        """Close what is free now, and the others when their block ends."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for client in free:
            client.close()
