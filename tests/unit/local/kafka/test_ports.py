"""Taken ports move on."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from meterfold_local import ports
from meterfold_local.errors import StackError


def listener(port: int = 0) -> socket.socket:
    server = socket.socket()
    server.bind((ports.HOST, port))
    server.listen()
    return server


def test_a_free_port_is_taken_as_wished() -> None:
    wished = ports.choose_port(0)
    assert ports.choose_port(wished) == wished


def test_a_taken_port_moves_on() -> None:
    first = ports.choose_port(0)
    with listener(first):
        assert not ports.is_free(first)
        assert ports.choose_port(first) > first
    assert ports.choose_port(first, taken=[first]) > first


def test_random_ports_keep_out_of_the_range_of_outgoing_connections() -> None:
    assert all(ports.choose_port(0) in ports.RANDOM_PORTS for _ in range(20))
    assert ports.RANDOM_PORTS.stop < 32768


CHOOSER = """
import sys
from meterfold_local import ports

ports.RANDOM_PORTS = [int(sys.argv[1])]
ports.MOVE_ON = 1
print(ports.choose_port(0), flush=True)
sys.stdin.read()
"""


@contextmanager
def chooser(port: int) -> Iterator[str]:
    """A process that chooses among this port alone, and what it says; it lives until the end."""
    with subprocess.Popen(
        [sys.executable, "-c", CHOOSER, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield process.stdout.readline()
        process.stdin.close()
        process.stdout.read()


def test_two_processes_do_not_choose_one_port_before_a_server_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    port = next(one for one in range(31000, 32000) if ports.is_free(one))
    monkeypatch.setattr(ports, "RANDOM_PORTS", [port])
    monkeypatch.setattr(ports, "MOVE_ON", 1)
    with chooser(port) as said:
        assert said == f"{port}\n"
        with pytest.raises(StackError, match="tried at random"):
            ports.choose_port(0)
        assert ports.choose_port(port) == port  # whoever names a port gets it
    assert ports.choose_port(0) == port  # the process has ended
    with chooser(port) as said:
        assert said != f"{port}\n"


def test_nothing_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    with pytest.raises(StackError, match="from 9092 to 9291"):
        ports.choose_port(9092)
