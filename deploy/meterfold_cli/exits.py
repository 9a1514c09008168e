"""What the exit codes of `meterfold` mean; docs/cli.md has the same table.

0    done, and all is well
1    done or stopped, and something is not well: events stuck, rows refused, a worker's fatal error
2    the command line, a setting or a definition is wrong: correct it, then run it again
3    a server could not be reached, or did not answer in time: run it again later
4    an extra of the package is not installed
5    `verify`: nothing differs, but a part has expired and can't be recounted any more
70   a defect in Meterfold
130  interrupted (Ctrl-C)
"""

from __future__ import annotations

from typing import Final

from meterfold_schemas.errors import InvalidDefinition, InvalidSettings, InvalidUsage, MeterfoldError, Retryable

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3
MISSING_EXTRA: Final = 4
EXPIRED: Final = 5
DEFECT: Final = 70
INTERRUPTED: Final = 130


class WrongInput(MeterfoldError):
    """What was asked for on the command line can't be done as it stands."""

    code = "WRONG_INPUT"


def code_of(error: MeterfoldError) -> int:
    """The exit code of a command that ended with this error."""
    if isinstance(error, InvalidSettings | InvalidDefinition | InvalidUsage | WrongInput):
        return USAGE
    return UNAVAILABLE if isinstance(error, Retryable) else FAILED
