"""How a Meter ends after an exception inside `with`, and how one ends that was never closed."""

from __future__ import annotations

import sys
import warnings
from typing import Final

from meterfold.errors import UndeliveredEvents
from meterfold.log import logger
from meterfold.transport import Transport
from meterfold_schemas.plurals import plural

__all__ = ["attach", "patience", "send_unclosed"]

# A working broker confirms within milliseconds; without a report for this long the exception waits no longer.
_IDLE_SECONDS: Final = 1.0
_INTERRUPTED_IDLE_SECONDS: Final = 0.2
_INTERRUPTED_SECONDS: Final = 1.0


def patience(error: BaseException, close_timeout: float) -> tuple[float, float | None]:
    """(timeout, idle) of the close that an exception waits for; `idle` as Transport.close takes it.

    SystemExit is a normal end of a program, so it waits as a close does.
    """
    if isinstance(error, SystemExit):
        return close_timeout, None
    if isinstance(error, KeyboardInterrupt):
        return min(close_timeout, _INTERRUPTED_SECONDS), _INTERRUPTED_IDLE_SECONDS
    return close_timeout, _IDLE_SECONDS


def attach(lost: UndeliveredEvents, error: BaseException) -> None:
    """Report what was lost beside the application's own exception, which propagates."""
    logger.error("%s", lost)
    error.add_note(f"meterfold: {lost}")


def send_unclosed(transport: Transport, close_timeout: float) -> None:
    """For a Meter that was dropped, or is still open at the end of the program."""
    # What ended the program, if it was an exception: sys.last_exc is not there before Python 3.12.
    error = getattr(sys, "last_value", None)
    timeout, idle = (close_timeout, None) if error is None else patience(error, close_timeout)
    if (outstanding := transport.counts().outstanding) > 0:
        warnings.warn(
            f"a Meter was not closed and {plural(outstanding, 'event')} had no report yet; use `with Meter()` or "
            f"close(). Sending them now, at most {timeout:g} s",
            ResourceWarning,
            stacklevel=2,
        )
    transport.close(timeout, idle)
