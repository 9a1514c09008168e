"""The helpers of the tests themselves: a guard that never fires, or a wait that never fails, would hide everything."""

from __future__ import annotations

import os
import socket
import threading
import urllib.request
from pathlib import Path

import pytest

from meterfold_schemas.settings_sources import LOCAL_KAFKA, PREFIX
from support import eventually
from support.denied_network import NetworkDenied


def listener() -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    return server


def test_a_unit_test_reaches_no_server() -> None:
    with listener() as server:
        address = server.getsockname()
        with pytest.raises(NetworkDenied, match="tests/integration"):
            socket.create_connection(address, timeout=1)
        with pytest.raises(NetworkDenied):
            urllib.request.urlopen(f"http://127.0.0.1:{address[1]}/", timeout=1)


@pytest.mark.loopback
def test_unless_it_is_marked() -> None:
    with listener() as server, socket.create_connection(server.getsockname(), timeout=60) as client:
        assert client.getpeername() == server.getsockname()


def test_no_settings_are_found_by_accident() -> None:
    names = [name.removeprefix(PREFIX) for name in os.environ if name.startswith(PREFIX)]
    assert set(names) <= LOCAL_KAFKA
    assert not list(Path.cwd().glob("*meterfold*"))
    assert not Path(".meterfold").exists()


def test_eventually_gives_the_first_truthy_value() -> None:
    values = iter([0, 0, 7])
    assert eventually(lambda: next(values), 60) == 7


def test_eventually_fails_with_what_it_saw_last() -> None:
    def probe() -> bool:
        raise AssertionError("3 of 5 messages")

    with pytest.raises(AssertionError, match=r"not within 0\.1 s: all messages; last seen: 3 of 5 messages"):
        eventually(probe, 0.1, "all messages")


def test_eventually_sees_a_change_from_elsewhere() -> None:
    changed = threading.Event()
    threading.Timer(0.05, changed.set).start()
    assert eventually(changed.is_set, 60)
