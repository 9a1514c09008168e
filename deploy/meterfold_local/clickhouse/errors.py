"""ClickHouse's error codes as exceptions, with the HTTP status each is answered with.

QueryError        answered to the client: code, name and text as ClickHouse writes them
StartError        the server can't start: text for the operator and the process's exit status
"""

from __future__ import annotations

import re

NAMES = {
    36: "BAD_ARGUMENTS",
    62: "SYNTAX_ERROR",
    115: "UNKNOWN_SETTING",
    164: "READONLY",
    210: "NETWORK_ERROR",
    243: "NOT_ENOUGH_SPACE",
    271: "CANNOT_DECOMPRESS",
    372: "SESSION_NOT_FOUND",
    373: "SESSION_IS_LOCKED",
    374: "INVALID_SESSION_TIMEOUT",
    381: "HTTP_LENGTH_REQUIRED",
    48: "NOT_IMPLEMENTED",
    497: "ACCESS_DENIED",
    512: "SET_NON_GRANTED_ROLE",
    516: "AUTHENTICATION_FAILED",
    1001: "STD_EXCEPTION",
    1002: "UNKNOWN_EXCEPTION",
}

# As ClickHouse maps codes to status (src/Server/HTTP/exceptionCodeToHTTPStatus.cpp), except 516: a wrong password is
# answered with 401, as ClickHouse does for basic authentication.
STATUS = {
    **dict.fromkeys((6, 8, 10, 15, 25, 26, 27, 36, 38, 41, 43, 44, 53, 62, 69, 72, 117, 154, 167, 168, 256), 400),
    **dict.fromkeys((321, 427, 441, 559, 675, 676), 400),
    **dict.fromkeys((194, 516), 401),
    **dict.fromkeys((192, 193, 497, 512), 403),
    **dict.fromkeys((46, 47, 50, 56, 60, 73, 78, 81, 113, 115, 145, 372, 511), 404),
    **dict.fromkeys((76, 209, 439), 503),
    159: 408,
    223: 413,
    381: 411,
    48: 501,
}

_CODE = re.compile(r"Code: (\d+)\. DB::(?:[A-Za-z]+)?Exception: ")
_NAME = re.compile(r" \(([A-Z][A-Z0-9_]+)\)\s*$")
_VERSION = re.compile(r" ?\(version [^()]*(?:\([^()]*\))?\)\.?")
_SPOOL = re.compile(
    r"(?:: )?\s*\(in file/uri [^)]*\)|: While executing File|: data for INSERT was parsed from file(?:: \S+)?"
)


class QueryError(Exception):
    """An error that the client gets: `code` is ClickHouse's, `text` has neither code nor name in it."""

    def __init__(self, code: int, text: str, name: str | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.name = name or NAMES.get(code, "UNKNOWN_EXCEPTION")

    @property
    def status(self) -> int:
        return STATUS.get(self.code, 500)

    def message(self, version: str) -> str:
        """The one line that ClickHouse answers, without its end of line."""
        return f"Code: {self.code}. DB::Exception: {self.text} ({self.name}) (version {version})"


class StartError(Exception):
    """Why the server can't start; `exit_status` tells a supervisor which kind of reason it is."""

    def __init__(self, exit_status: int, text: str) -> None:
        super().__init__(text)
        self.exit_status = exit_status


def from_engine(text: str) -> QueryError:
    """The engine's own text ("Code: 60. DB::Exception: ... (UNKNOWN_TABLE)") as an error, without the path of the
    file that held the rows of an insert."""
    codes = list(_CODE.finditer(text))
    if not codes:
        return QueryError(1002, text.strip() or "the engine reported an error without a text")
    code = int(codes[0].group(1))
    # The engine wraps some errors in themselves: "Code: 117. DB::Exception: Code: 117. DB::Exception: ...".
    start = codes[0].end()
    for again in codes[1:]:
        if again.start() != start or int(again.group(1)) != code:
            break
        start = again.end()
    rest = _SPOOL.sub("", _VERSION.sub("", text[start:])).strip()
    name = None
    while found := _NAME.search(rest):
        if name is not None and found.group(1) != name:
            break
        name = found.group(1)
        rest = rest[: found.start()].rstrip()
    return QueryError(code, rest, name)
