"""What all pages of a process share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from meterfold_service.access.errors import InvalidToken
from meterfold_service.console.links import Links
from meterfold_service.console.live import Feed
from meterfold_service.console.sessions import Signer
from meterfold_service.console.spent import Spent
from meterfold_service.console.watch import Watch

if TYPE_CHECKING:
    from meterfold_service.access.principal import Principal
    from meterfold_service.console.sessions import Session
    from meterfold_service.http.context import HttpService
    from meterfold_service.metering import Metering
    from meterfold_service.tokens.authentication import Authentication

__all__ = ["Desk"]

P = ParamSpec("P")
R = TypeVar("R")


class Desk:
    """Of one process. Raises InvalidSettings without [http] token_key, of which every signature is derived."""

    def __init__(self, service: HttpService, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.service = service
        self.now = now
        self.signer = Signer(service.metering.tokens.key())
        self.spent = Spent(service.metering.clients)
        self.links = Links(self.signer, self.spent, self.time)
        self.watch = Watch(service.metering.status, self.run)
        self.feed = Feed(service.metering.status, self.run, service.stopping)

    @property
    def metering(self) -> Metering:
        return self.service.metering

    @property
    def is_slow(self) -> bool:
        """Whether ClickHouse answers late at present."""
        return bool(self.service.slow())

    @property
    def authentication(self) -> Authentication:
        return self.service.authentication

    async def principal_of(self, session: Session) -> Principal | None:
        """Who has signed in to a session; None once it has ended, or its token has. Raises Retryable or Fatal."""
        if await self.run(self.spent.is_spent, f"session.{session.id}"):
            return None
        try:
            return await self.run(self.authentication.principal_of, session.token_id)
        except InvalidToken:
            return None

    def time(self) -> float:
        """Seconds since 1970."""
        return self.now().timestamp()

    async def change(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """For operations that wait for workers."""
        return await self.service.change(operation, *args, **kwargs)

    async def run(self, operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await self.service.run(operation, *args, **kwargs)
