"""`metering.limits`: what is blocked or near its limit for a subject."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

from meterfold_service.errors import LimitsNotReady
from meterfold_service.limits.table import Limit

if TYPE_CHECKING:
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_service.limits.following import StateFollower

__all__ = ["Limits", "SubjectLimits"]

_CLOSE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class SubjectLimits:
    """The limits that a subject has reached or approaches, what blocks first. `as_of`: everything that the checker had
    judged until then is in the answer."""

    org_id: str
    subject_type: str
    subject_id: str
    as_of: datetime
    limits: tuple[Limit, ...]

    @property
    def blocked(self) -> bool:
        """Whether any of them asks to block the subject."""
        return any(one.blocks for one in self.limits)

    @property
    def blocked_until(self) -> datetime | None:
        """When the last of the blocking windows ends; None where none blocks, or one never ends."""
        ends = [one.period_end for one in self.limits if one.blocks]
        known = [end for end in ends if end is not None]
        return max(known) if known and len(known) == len(ends) else None


class Limits:
    """For any thread. The first call, or `follow`, starts a thread that reads the topic threshold.state into memory."""

    def __init__(self, kafka: Callable[[], KafkaSettings], now: Callable[[], datetime]) -> None:
        self._kafka = kafka
        self._now = now
        self._lock = Lock()
        self._stop = Event()
        self._follower: StateFollower | None = None
        self._thread: Thread | None = None

    def follow(self) -> StateFollower:
        """Read on in a thread, if none does yet."""
        with self._lock:
            if self._follower is None:
                from meterfold_service.limits.following import StateFollower

                self._follower = StateFollower(self._kafka, self._now)
                self._thread = Thread(
                    target=self._follower.run, args=(self._stop,), name="meterfold-limits", daemon=True
                )
                self._thread.start()
            return self._follower

    def get(self, subject: tuple[str, str], *, org_id: str = "") -> SubjectLimits:
        """What is blocked or near its limit. Takes microseconds. Raises LimitsNotReady until all was read once."""
        found, as_of = self.follow().of((org_id, *subject))
        if as_of is None:
            raise LimitsNotReady
        return SubjectLimits(org_id, *subject, as_of, found)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
