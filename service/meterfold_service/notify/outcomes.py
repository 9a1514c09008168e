"""What one try came to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from meterfold_sink.notifications import DueDelivery

__all__ = ["Outcome", "Sender"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`result`: delivered; retry; refused, where no further try can succeed; gone, where the endpoint is to be disabled
    as well. `status`: HTTP status or SMTP code, 0 without an answer. `error` holds no secret and no body. `after`: the
    earliest next try that the receiver asks for.
    """

    result: Literal["delivered", "retry", "refused", "gone"]
    status: int = 0
    error: str = ""
    after: datetime | None = None


class Sender(Protocol):
    """One channel."""

    async def send(self, delivery: DueDelivery, now: datetime) -> Outcome:
        """One try, bounded in time. Every failure is an Outcome; an exception is a defect."""

    async def close(self) -> None: ...
