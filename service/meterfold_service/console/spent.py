"""What may be used no more: links that were used, and sessions that were signed out. Shared by every process."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, Final

from meterfold_sink.console_spent import claims_of, write_claim

if TYPE_CHECKING:
    from meterfold_sink.pool import ClientPool

__all__ = ["Spent"]

_FRESH_SECONDS: Final = 3.0
_MOST_REMEMBERED: Final = 10_000


class Spent:
    """For any thread. Every method raises Retryable or Fatal."""

    def __init__(self, clients: ClientPool, clock: Callable[[], float] = time.monotonic) -> None:
        self._clients = clients
        self._clock = clock
        self._lock = Lock()
        self._unspent: dict[str, float] = {}

    def claim(self, name: str) -> bool:
        """Use `name` up. True for the only caller who has used it.

        Each caller writes a claim and then reads all of them: of two callers at the same moment none wins, or the one
        whose claim was there alone; never both.
        """
        own = secrets.token_hex(16)
        with self._clients.client() as client:
            write_claim(client, name, own)
            return claims_of(client, name) == [own]

    def spend(self, name: str) -> None:
        """Use `name` up, whoever did before."""
        with self._clients.client() as client:
            write_claim(client, name, secrets.token_hex(16))
        with self._lock:
            self._unspent.pop(name, None)

    def is_spent(self, name: str) -> bool:
        """As of 3 seconds ago at most."""
        now = self._clock()
        with self._lock:
            if now - self._unspent.get(name, float("-inf")) < _FRESH_SECONDS:
                return False
        with self._clients.client() as client:
            if claims_of(client, name):
                return True
        with self._lock:
            if len(self._unspent) >= _MOST_REMEMBERED:
                self._unspent.clear()
            self._unspent[name] = now
        return False
