"""Free ports on loopback: a taken one moves on, a random one keeps out of the kernel's way."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Collection
from functools import cache
from pathlib import Path

from meterfold_local.errors import StackError

HOST = "127.0.0.1"

# Below the range from which the kernel takes ports for outgoing connections (32768 on Linux, 49152 on macOS):
# there a client that keeps connecting to a killed server could be given the server's own port, and connect to itself.
RANDOM_PORTS = range(20000, 32000)
MOVE_ON = 200


def is_free(port: int) -> bool:
    """Whether a server could listen there now; connections still in TIME_WAIT don't count, as for the servers."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose_port(preferred: int, taken: Collection[int] = ()) -> int:
    """The first free port from `preferred` on, or with 0 a random one; never one of `taken`."""
    if preferred:
        candidates = iter(range(preferred, min(preferred + MOVE_ON, 65536)))
    else:
        candidates = iter(random.sample(RANDOM_PORTS, MOVE_ON))
    for port in candidates:
        if port not in taken and is_free(port) and (preferred or _claimed(port)):
            return port
    where = f"from {preferred} to {min(preferred + MOVE_ON, 65536) - 1}" if preferred else "tried at random"
    raise StackError(f"no free port on {HOST} {where}; stop what listens there or choose another port")


def _claimed(port: int) -> bool:
    """Whether no other process has chosen the port, whose server may not listen yet. It is kept until this one ends."""
    claims = _claims()
    if claims is None:
        return True
    try:
        fcntl.lockf(claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@cache
def _claims() -> int | None:
    """A file of this user with a byte for each port; closing it would release all of them. None: it can't be made."""
    path = Path(tempfile.gettempdir()) / f"meterfold-ports-{os.getuid()}"
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
