"""Which errors of ClickHouse are retried, and what an operator can do about the others.

Everything that is not known to be hopeless is retryable: the caller keeps its input, backs off, and its health turns
bad without progress. The codes are those of ClickHouse's src/Common/ErrorCodes.cpp.
"""

from __future__ import annotations

import http.client
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from meterfold_schemas.errors import Fatal, MeterfoldError, Retryable

__all__ = ["MISSING_DATABASE", "MISSING_TABLE", "ServerError", "code_of", "mapped", "translated"]

MISSING_TABLE: Final = 60
MISSING_DATABASE: Final = 81

_MIGRATE: Final = "run `meterfold migrate` with this version of meterfold"
_SIGN_IN: Final = "check the username and password of the ClickHouse settings"
_RIGHTS: Final = "grant this user the rights to read and write the database"
_DEFECT: Final = "this is a bug in Meterfold or an unsupported version of ClickHouse; please report it"

#: code -> what to do. A retry cannot fix these.
_HOPELESS: Final = MappingProxyType(
    {
        10: _MIGRATE,  # NOT_FOUND_COLUMN_IN_BLOCK
        16: _MIGRATE,  # NO_SUCH_COLUMN_IN_TABLE
        36: _DEFECT,  # BAD_ARGUMENTS
        42: _DEFECT,  # NUMBER_OF_ARGUMENTS_DOESNT_MATCH
        43: _DEFECT,  # ILLEGAL_TYPE_OF_ARGUMENT
        46: _DEFECT,  # UNKNOWN_FUNCTION
        47: _MIGRATE,  # UNKNOWN_IDENTIFIER
        53: _DEFECT,  # TYPE_MISMATCH
        57: _MIGRATE,  # TABLE_ALREADY_EXISTS
        MISSING_TABLE: _MIGRATE,
        62: _DEFECT,  # SYNTAX_ERROR
        MISSING_DATABASE: _MIGRATE,
        115: _DEFECT,  # UNKNOWN_SETTING
        164: "this user or server is read-only (setting `readonly`): grant the right to write",
        192: _SIGN_IN,  # UNKNOWN_USER
        193: _SIGN_IN,  # WRONG_PASSWORD
        194: _SIGN_IN,  # REQUIRED_PASSWORD
        291: _RIGHTS,  # DATABASE_ACCESS_DENIED
        407: "a quantity is out of the range of decimal(38, 9); no number was changed",  # DECIMAL_OVERFLOW
        497: _RIGHTS,  # ACCESS_DENIED
        516: _SIGN_IN,  # AUTHENTICATION_FAILED
    }
)

#: Descriptions of frequent temporary errors. Other codes are retried as well.
_PASSING: Final = MappingProxyType(
    {
        159: "the query took too long",
        202: "it has too many simultaneous queries",
        241: "it is out of memory",
        242: "the table is temporarily read-only",
        243: "its disk is full: free some space; no data is lost",
        252: "it has too many parts and must merge first",
        319: "the outcome of the insert is unknown; it is repeated, which is safe",
    }
)

_STATUS = re.compile(r"HTTP status (\d{3})")
_HOPELESS_STATUS: Final = MappingProxyType(
    {401: _SIGN_IN, 403: _SIGN_IN, 404: "this URL is not a ClickHouse HTTP interface; check it"}
)
_SHOWN: Final = 600
_NOISE = re.compile(
    r"^Received ClickHouse exception, code: \d+, server response: |DB::Exception: |\(version [^()]*(\([^()]*\))?\) ?"
    r"|\(for url [^()]*\)$"
)


class ServerError(Exception):
    """An error response to a request of small.py; `code` is ClickHouse's error code, if it sent one."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


def code_of(error: BaseException) -> int | None:
    """ClickHouse's code behind an error of ours or of clickhouse-connect, if the server sent one."""
    cause = error.__cause__ if isinstance(error, MeterfoldError) else error
    code = getattr(cause, "code", None)
    return code if isinstance(code, int) else None


def translated(error: Exception, doing: str) -> MeterfoldError:
    """Retryable or Fatal for an error of clickhouse-connect, small.py or the socket; `doing` names the operation."""
    code = getattr(error, "code", None)
    text = _text(error)
    if isinstance(code, int):
        if (advice := _HOPELESS.get(code)) is not None:
            return Fatal(f"ClickHouse refused {doing}: {text} - what to do: {advice}")
        return Retryable(f"ClickHouse failed {doing}: {_PASSING.get(code, '')}{': ' if code in _PASSING else ''}{text}")
    status = _STATUS.search(text)
    if status is not None and (advice := _HOPELESS_STATUS.get(int(status.group(1)))) is not None:
        return Fatal(f"ClickHouse refused {doing}: {text} - what to do: {advice}")
    return Retryable(
        f"ClickHouse could not be reached {doing}, or the connection broke: {text}. Check the address, and whether the "
        "server is running"
    )


@contextmanager
def mapped(doing: str) -> Iterator[None]:
    """Turn the driver's errors into the tree of meterfold_schemas.errors."""
    try:
        yield
    except _driver_errors() as error:
        raise translated(error, doing) from error


def _driver_errors() -> tuple[type[Exception], ...]:
    """clickhouse-connect takes long to import, and what was never imported has raised nothing."""
    names = (("clickhouse_connect.driver.exceptions", "ClickHouseError"), ("urllib3.exceptions", "HTTPError"))
    theirs = [getattr(sys.modules[module], name) for module, name in names if module in sys.modules]
    return (ServerError, OSError, http.client.HTTPException, *theirs)


def _text(error: Exception) -> str:
    text = _NOISE.sub("", " ".join(str(error).split())).strip() or type(error).__name__
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
