"""What the exit codes of `meterfold` mean; docs/cli.md has the same table.

0    success
1    a problem was found: events are stuck, rows were refused, a worker had a fatal error
2    the command line, a setting, a definition or an input file is invalid: correct it
3    a server was not reachable or did not answer in time: run the command again later
4    an extra of the package is not installed
5    `verify`: no differences, but some data has expired and cannot be recounted
70   a bug in Meterfold
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
    """The command line asks for something that cannot be done."""

    code = "WRONG_INPUT"


def code_of(error: MeterfoldError) -> int:
    """The exit code of a command that ended with this error."""
    if isinstance(error, InvalidSettings | InvalidDefinition | InvalidUsage | WrongInput):
        return USAGE
    return UNAVAILABLE if isinstance(error, Retryable) else FAILED
