"""Unit tests and simulations open no connection: a test that would need a server by accident fails loudly."""

from __future__ import annotations

import socket
from typing import Any

import pytest


class NetworkDenied(AssertionError):
    """A test that is to run without servers tried to reach one."""


def deny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connection from Python code fail (Unix sockets may go on)."""

    def guarded(name: str) -> Any:
        real = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                self.close()  # callers do this for an OSError only
                raise NetworkDenied(
                    f"this test may not connect (to {address}): put it under tests/integration with the stack "
                    "fixture, or mark it with `loopback` if it talks to a server of its own"
                )
            return real(self, address)

        return connect

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, guarded(name))
