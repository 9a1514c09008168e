"""Trying again: longer and longer pauses, up to a limit, that a stop cuts short."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from meterfold_schemas.errors import Retryable

_LOG = logging.getLogger("meterfold")

T = TypeVar("T")

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0


class Stopped(Exception):
    """The worker was told to stop while it waited to try again."""


class Troubles(dict[str, str]):
    """What goes wrong now and is being retried, by activity; empty while all is well."""

    def of(self, activity: str) -> Callable[[Retryable | None], None]:
        """A callback that shows, or clears, the trouble of one activity."""

        def tell(error: Retryable | None) -> None:
            if error is None:
                self.pop(activity, None)
            else:
                self[activity] = str(error)

        return tell


@dataclass(slots=True)
class Backoff:
    """The next pause: doubles from FIRST_SECONDS to LONGEST_SECONDS, and starts anew after `reset`."""

    pause: float = FIRST_SECONDS

    def next(self) -> float:
        pause, self.pause = self.pause, min(self.pause * 2, LONGEST_SECONDS)
        return pause

    def reset(self) -> None:
        self.pause = FIRST_SECONDS


def persist(attempt: Callable[[], T], stop: Event, report: Callable[[Retryable | None], None]) -> T:
    """Call `attempt` until it succeeds. `report` gets every Retryable, and None once it went well again.

    Raises Stopped when `stop` is set; any other error goes through.
    """
    backoff = Backoff()
    failed = False
    while True:
        try:
            answer = attempt()
        except Retryable as error:
            failed = True
            report(error)
            _LOG.warning("%s; trying again in %.1f s", error, backoff.pause)
            if stop.wait(backoff.next()):
                raise Stopped from error
        else:
            if failed:
                report(None)
            return answer
