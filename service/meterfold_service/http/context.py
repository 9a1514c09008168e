"""What routes get: the service of the process, and the caller with the operations they may call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from meterfold_service.access.errors import InvalidToken
from meterfold_service.access.principal import Principal, Scope
from meterfold_service.access.scoped import Scoped
from meterfold_service.http.availability import Availability, Unavailable
from meterfold_service.http.ingesting import Ingesting
from meterfold_service.http.settings import HttpSettings
from meterfold_service.http.traffic import Traffic
from meterfold_service.limits.following import StateFollower
from meterfold_service.metering import Metering
from meterfold_service.tokens.authentication import Authentication

__all__ = ["Caller", "HttpService", "caller", "needs", "scope_of"]

P = ParamSpec("P")
R = TypeVar("R")

BEARER = HTTPBearer(
    auto_error=False, scheme_name="token", description="A token that `meterfold token create` printed: `mf_...`."
)


class HttpService:
    """What all requests of a process share. `run` calls an operation, which may block, beside the event loop; `change`
    one that may wait for workers, in threads of its own, so that it never keeps a reader waiting. Both raise
    Unavailable where ClickHouse is away."""

    def __init__(self, metering: Metering, authentication: Authentication, settings: HttpSettings) -> None:
        self.metering = metering
        self.authentication = authentication
        self.settings = settings
        self.traffic = Traffic()
        self.ingesting = Ingesting()
        self.stopping = asyncio.Event()
        """Set when the server stops: answers without an end must end."""
        self.exports = asyncio.Semaphore(settings.exports)
        self.availability = Availability(metering.ping, metering.reach, self.traffic.errors)
        self._follower: StateFollower | None = None
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="meterfold-http")
        self._changes = ThreadPoolExecutor(settings.threads, thread_name_prefix="meterfold-http-change")

    async def run(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._called(self._threads, lambda: operation(*args, **kwargs))

    async def change(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._called(self._changes, lambda: operation(*args, **kwargs))

    async def anyway(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """As `change`, also while ClickHouse is away."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._changes, lambda: operation(*args, **kwargs))

    async def _called(self, threads: Executor, operation: Callable[[], R]) -> R:
        self.availability.check()
        answer = asyncio.get_running_loop().run_in_executor(threads, operation)
        away = asyncio.ensure_future(self.availability.away.wait())
        both: set[asyncio.Future[Any]] = {answer, away}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            away.cancel()
        if not answer.done():
            # The thread waits until its query ends; nobody looks at the answer.
            answer.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise Unavailable
        return answer.result()

    def discard(self, close: Callable[[], None]) -> None:
        """Call `close`, for which nobody waits."""
        self._changes.submit(close)

    def follow(self) -> None:
        """Read limits into memory."""
        self._follower = self.metering.limits.follow()

    def waiting_for(self) -> list[Literal["clickhouse", "limits"]]:
        """What a request would wait for."""
        waiting: list[Literal["clickhouse", "limits"]] = []
        if self.availability.away.is_set():
            waiting.append("clickhouse")
        if self._follower is not None and self._follower.as_of is None:
            waiting.append("limits")
        return waiting

    def slow(self) -> list[Literal["clickhouse"]]:
        """What answers late, so that requests take longer."""
        return ["clickhouse"] if self.availability.is_slow else []

    def note(self) -> None:
        """For the metrics, from time to time."""
        if self._follower is not None:
            self.traffic.limits = len(self._follower)
            self.traffic.errors.pop("limits", None)
            self.traffic.errors |= self._follower.errors

    def close(self) -> None:
        self.availability.close()
        self.ingesting.close()
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
    authentication = service.authentication
    principal = authentication.remembered(credentials.credentials)
    if principal is None:
        principal = await service.run(authentication.principal, credentials.credentials)
    request.state.principal = principal
    return Caller(service, principal)


def needs(scope: Scope, *, any_parameters: bool = False) -> Any:
    """A dependency: the caller, if the token has this scope. Operations check it too; OpenAPI shows it.
    `any_parameters`: clients of other makes may send parameters that the route does not declare."""

    async def allowed(request: Request, found: Annotated[Caller, Depends(caller)]) -> Caller:
        found.principal.need(scope)
        if not any_parameters:
            _refuse_parameters(request)
        return found

    allowed.scope = scope  # type: ignore[attr-defined]
    return Depends(allowed)


def _refuse_parameters(request: Request) -> None:
    """Of a route that has none: FastAPI refuses unknown ones only beside those that it knows."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if request.query_params and dependant is not None and not dependant.query_params:
        raise RequestValidationError(
            [{"loc": ("query", name), "msg": "this route has no such parameter"} for name in request.query_params]
        )


def scope_of(route: APIRoute) -> Scope | None:
    """The scope that a route needs; None where it needs no token."""
    found = (getattr(one.call, "scope", None) for one in route.dependant.dependencies)
    return next((scope for scope in found if isinstance(scope, Scope)), None)
