"""Connections of webhooks: a name is resolved once, every address is checked, and the connection goes to one of them.

To check a name and connect to it afterwards would resolve it twice, and the second answer can differ (DNS rebinding).
TLS still verifies the name: httpcore takes it from the URL, not from the address.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import httpcore

from meterfold_service.notify.addresses import EndpointRules, check_address
from meterfold_service.notify.threads import DaemonThreads

__all__ = ["PinnedBackend", "Resolve", "connection_pool", "resolver"]

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> addresses. Raises OSError."""

_MOST_ADDRESSES: Final = 4


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Raises Refused from `connect_tcp` if any address of the host may not be reached."""

    def __init__(
        self, rules: EndpointRules, resolve: Resolve, inner: httpcore.AsyncNetworkBackend | None = None
    ) -> None:
        self._rules = rules
        self._resolve = resolve
        self._inner = inner or httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the host name cannot be resolved ({_reason(error)})") from None
        if not addresses:
            raise httpcore.ConnectError("the host name has no address")
        for address in addresses:
            check_address(address, self._rules)
        failure: Exception = httpcore.ConnectError("no connection")
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("webhooks do not go to local sockets")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


def resolver(threads: DaemonThreads) -> Resolve:
    """The system's resolver in threads of its own: a slow name server must not delay anything else."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        found = await threads.run(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    return resolve


def connection_pool(backend: PinnedBackend, ca_file: str) -> httpcore.AsyncConnectionPool:
    """One connection per try: a kept one would skip the check of the next try. Raises OSError for the file."""
    return httpcore.AsyncConnectionPool(
        ssl_context=ssl.create_default_context(cafile=ca_file or None),
        network_backend=backend,
        max_connections=None,
        max_keepalive_connections=0,
        retries=0,
        http1=True,
        http2=False,
    )


def _reason(error: Exception) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__
