"""Retries with exponential backoff, which a stop interrupts."""

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
    """The worker was stopped while it waited for the next attempt."""


class Troubles(dict[str, str]):
    """Errors that are being retried, by activity. Empty while there are none."""

    def of(self, activity: str) -> Callable[[Retryable | None], None]:
        """A callback that sets or clears the error of one activity."""

        def report(error: Retryable | None) -> None:
            if error is None:
                self.pop(activity, None)
            else:
                self[activity] = str(error)

        return report


@dataclass(slots=True)
class Backoff:
    """The next pause: doubles from FIRST_SECONDS to LONGEST_SECONDS, and starts again after `reset`."""

    pause: float = FIRST_SECONDS

    def next(self) -> float:
        pause, self.pause = self.pause, min(self.pause * 2, LONGEST_SECONDS)
        return pause

    def reset(self) -> None:
        self.pause = FIRST_SECONDS


def persist(attempt: Callable[[], T], stop: Event, report: Callable[[Retryable | None], None]) -> T:
    """Call `attempt` until it succeeds. `report` gets every Retryable, and None after a success.

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
