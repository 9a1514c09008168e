"""Which URLs and addresses a webhook may reach. Pure.

Users name webhook URLs, and Meterfold calls them from inside of the operator's network. So a URL has to be https with a
usual port and without a login, and every address that its name resolves to has to be public or in a network that the
operator allows. An address that carries another one (IPv4 in IPv6) is judged by that one as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

__all__ = ["Endpoint", "EndpointRules", "Refused", "check_address", "endpoint_of", "shown"]

_NAT64: Final = IPv6Network("64:ff9b::/96")
#: Of IANA's special-purpose registries what Python's `is_global` does not know in every version.
_SPECIAL: Final = tuple(
    map(
        ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "2001::/23", "2002::/16", "3fff::/20", "5f00::/16"),
    )
)
_COMPATIBLE: Final = IPv6Network("::/96")
_HOST: Final = re.compile(r"[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_LONGEST: Final = 2_048

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Refused(Exception):
    """A webhook may not go there. The text says why and holds no secret."""


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """The settings of webhooks that decide where they may go."""

    ports: Collection[int] = (443, 8443)
    allow_http: bool = False
    networks: Collection[Network] = field(default=())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked URL: `host` in ASCII, `target` is path and query."""

    secure: bool
    host: str
    port: int
    target: str


def endpoint_of(url: str, rules: EndpointRules) -> Endpoint:
    """The parts of a webhook URL. Raises Refused."""
    if len(url) > _LONGEST or not url.isprintable() or " " in url or "\\" in url:
        raise Refused("the URL is too long, or has spaces, backslashes or control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Refused("the URL cannot be read") from None
    if parts.scheme not in ("https", "http"):
        raise Refused("the URL must begin with https://")
    if parts.scheme == "http" and not rules.allow_http:
        raise Refused("the URL must begin with https://; the setting notify.allow_http allows http://")
    if "@" in parts.netloc:
        raise Refused("the URL must not have a user name or password")
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    if port not in rules.ports and not (port == 80 and parts.scheme == "http"):
        allowed = ", ".join(map(str, sorted(rules.ports)))
        raise Refused(f"port {port} is not one of the setting notify.webhook_ports ({allowed})")
    host = _ascii(host)
    if not _HOST.fullmatch(f"[{host}]" if ":" in host else host):
        raise Refused("the URL has no valid host name")
    target = parts.path or "/"
    target = f"{target}?{parts.query}" if parts.query else target
    if not target.isascii():
        raise Refused("path and query of the URL must be percent-encoded")
    return Endpoint(parts.scheme == "https", host, port, target)


def check_address(text: str, rules: EndpointRules) -> None:
    """Raises Refused for an address that is neither public nor allowed."""
    address = ip_address(text.partition("%")[0])
    for judged in _judged(address):
        if any(judged in network for network in rules.networks if network.version == judged.version):
            continue
        if not _is_public(judged):
            raise Refused(
                f"the address {text} is not public; the setting notify.allowed_networks allows further networks"
            )


def shown(url: str) -> str:
    """A URL for logs: its path and query can hold a token."""
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname or ''}{'/...' if parts.path not in ('', '/') or parts.query else ''}"
    except ValueError:
        return "(unreadable URL)"


def _is_public(address: Address) -> bool:
    return (
        address.is_global
        and not any(address in network for network in _SPECIAL if network.version == address.version)
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and not (isinstance(address, IPv6Address) and (address.is_site_local or address in _COMPATIBLE))
    )


def _judged(address: Address) -> Iterator[Address]:
    """What has to be public for an address to be: it and what it carries. The prefix of NAT64 is only an envelope."""
    if address not in _NAT64:
        yield address
    yield from _carried(address)


def _carried(address: Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that packets to an IPv6 address can end at."""
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    if address in _NAT64 or address in _COMPATIBLE:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)


def _ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise Refused("the URL has no valid host name") from None
