"""What routes get: the service of the process, and the caller with the operations they may call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from meterfold_service.access.errors import Forbidden, InvalidToken
from meterfold_service.access.principal import Principal, Scope
from meterfold_service.access.scoped import Scoped
from meterfold_service.http.deliveries import Deliveries
from meterfold_service.http.settings import HttpSettings
from meterfold_service.metering import Metering
from meterfold_service.tokens.authentication import Authentication

__all__ = ["Caller", "HttpService", "caller", "needs"]

P = ParamSpec("P")
R = TypeVar("R")

BEARER = HTTPBearer(auto_error=False, description="A token that `meterfold token create` printed.")


class HttpService:
    """What all requests of a process share. `run` calls an operation, which may block, beside the event loop; `change`
    one that may wait for workers, in threads of its own, so that it never keeps a reader waiting."""

    def __init__(self, metering: Metering, authentication: Authentication, settings: HttpSettings) -> None:
        self.metering = metering
        self.authentication = authentication
        self.settings = settings
        self.exports = asyncio.Semaphore(settings.exports)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="meterfold-http")
        self._changes = ThreadPoolExecutor(settings.threads, thread_name_prefix="meterfold-http-change")

    @cached_property
    def deliveries(self) -> Deliveries:
        """Of the event loop that asks first."""
        return Deliveries(asyncio.get_running_loop())

    async def run(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: operation(*args, **kwargs))

    async def change(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._changes, lambda: operation(*args, **kwargs))

    def discard(self, chunks: Iterator[bytes]) -> None:
        """Close a generator whose client is gone; nobody waits for it."""
        closing = getattr(chunks, "close", None)
        if closing is not None:
            self._changes.submit(closing)

    def close(self) -> None:
        for threads in (self._threads, self._changes):
            threads.shutdown(wait=False, cancel_futures=True)
        self.metering.close()


class Caller:
    """The principal of a request, and the operations it may call: `await caller.run(caller.may.usage.get, ...)`."""

    def __init__(self, service: HttpService, principal: Principal) -> None:
        self.service = service
        self.principal = principal
        self.may = Scoped(service.metering, principal)

    async def run(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.service.run(operation, *args, **kwargs)

    async def change(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """For operations that wait for workers."""
        return await self.service.change(operation, *args, **kwargs)


async def caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
) -> Caller:
    """Who sent the request. Raises InvalidToken."""
    if credentials is None:
        raise InvalidToken("no token: send the header Authorization: Bearer mf_...")
    service: HttpService = request.app.state.service
    principal = await service.run(service.authentication.principal, credentials.credentials)
    return Caller(service, principal)


def needs(scope: Scope) -> Any:
    """A dependency: the caller, if the token has this scope. Operations check it too; OpenAPI shows it."""

    async def allowed(found: Annotated[Caller, Depends(caller)]) -> Caller:
        if not found.principal.may(scope):
            raise Forbidden.scope(scope)
        return found

    allowed.scope = scope  # type: ignore[attr-defined]
    return Depends(allowed)
