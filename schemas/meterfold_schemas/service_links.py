"""Kubernetes' service links: variables that it puts into every pod for each Service of the namespace.

A Service named `meterfold-kafka` gives METERFOLD_KAFKA_SERVICE_HOST, METERFOLD_KAFKA_SERVICE_PORT,
METERFOLD_KAFKA_SERVICE_PORT_<PORT NAME>, METERFOLD_KAFKA_PORT=tcp://10.0.0.1:9092, METERFOLD_KAFKA_PORT_9092_TCP, and
the latter with _PROTO, _PORT and _ADDR. They look like our own variables and mean nothing to us.
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

from __future__ import annotations

import re
from ipaddress import ip_address

__all__ = ["is_service_link"]

_URL = re.compile(r"(tcp|udp|sctp)://\S+")
_NAMES = re.compile(
    r"""(?:.*?_)?(?:
        (?P<host> SERVICE_HOST)
      | (?P<number> SERVICE_PORT (?:_[A-Z0-9_]+)? | PORT_\d+_(?:TCP|UDP|SCTP)_PORT)
      | (?P<url> PORT | PORT_\d+_(?:TCP|UDP|SCTP))
      | (?P<protocol> PORT_\d+_(?:TCP|UDP|SCTP)_PROTO)
      | (?P<address> PORT_\d+_(?:TCP|UDP|SCTP)_ADDR)
    )""",
    re.VERBOSE,
)


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes made this variable (`name` without METERFOLD_): both its name and its value look like it."""
    found = _NAMES.fullmatch(name)
    if found is None:
        return False
    match found.lastgroup:
        case "host" | "address":
            return _is_address(value)
        case "number":
            return value.isascii() and value.isdecimal()
        case "protocol":
            return value in ("tcp", "udp", "sctp")
        case _:
            return _URL.fullmatch(value) is not None


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True
