"""Taken ports move on."""

from __future__ import annotations

import socket

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


def test_nothing_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    with pytest.raises(StackError, match="from 9092 to 9291"):
        ports.choose_port(9092)
