"""What kind of statement a text is, where an INSERT's rows begin, which output format it asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.lexer import Kind, Token, tokens

LEX_LIMIT = 64 * 1024
"""A longer text is lexed at its end only (lists of a million hashes): what asks for a format stands there."""


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT whose rows follow the statement: `INSERT INTO t (a) FORMAT CSV` and then bytes.

    target     the statement up to where FROM INFILE may stand
    settings   its SETTINGS clause, or nothing
    format     name of the input format; VALUES is "Values"
    rows_at    where the rows begin in the text that was looked at
    """

    target: bytes
    settings: bytes
    format: bytes
    rows_at: int

    @property
    def statement(self) -> bytes:
        """The statement without rows, as the engine's parser takes it."""
        # On lines of their own: a comment at the end of a part must not swallow the next one.
        return b"%s\n%s\nFORMAT %s" % (self.target, self.settings, self.format)

    def from_file(self, path: bytes) -> bytes:
        """The statement that reads the rows from a file of ours."""
        return b"%s\nFROM INFILE '%s'\n%s\nFORMAT %s" % (self.target, path, self.settings, self.format)


def first_word(sql: bytes) -> bytes:
    """The first keyword in capitals, parentheses skipped; b"" when there is none."""
    for token in tokens(sql):
        if token.kind is Kind.WORD:
            return token.text.upper()
        if token.text != b"(":
            break
    return b""


def is_insert(text: bytes) -> bool:
    """Does it start with INSERT?"""
    first = next(tokens(text), None)
    return first is not None and first.is_word(b"INSERT")


def insert_of(text: bytes) -> Insert | None:
    """The INSERT with rows that this text starts with, None for any other statement (also INSERT ... SELECT)."""
    stream = tokens(text)
    first = next(stream, None)
    if first is None or not first.is_word(b"INSERT"):
        return None
    token = _skip_table(stream)
    depth = 0
    settings_at: int | None = None
    while token is not None:
        following = next(stream, None)
        if token.text in (b"(", b"["):
            depth += 1
        elif token.text in (b")", b"]"):
            depth -= 1
        elif depth == 0:
            if token.is_word(b"SELECT", b"WITH", b"WATCH", b"FROM"):
                return None
            if token.is_word(b"SETTINGS") and settings_at is None:
                settings_at = token.start
            elif token.is_word(b"VALUES"):
                return _insert(text, settings_at, token.start, b"Values", token.end)
            elif token.is_word(b"FORMAT") and following is not None and following.kind is Kind.WORD:
                return _insert(text, settings_at, token.start, following.text, _rows_after(text, following.end))
        token = following
    return None


def output_format(sql: bytes, known: Collection[bytes]) -> bytes | None:
    """The format that a FORMAT clause asks for, None without one. `known` are the engine's format names."""
    text = sql[-LEX_LIMIT:]
    if b"FORMAT" not in text.upper():
        return None
    found = None
    depth = 0
    before: Token | None = None
    for token in tokens(text):
        if token.text == b"(":
            depth += 1
        elif token.text == b")":
            depth -= 1
        elif (
            depth <= 0
            and before is not None
            and before.is_word(b"FORMAT")
            and token.kind is Kind.WORD
            and token.text in known
        ):
            found = token.text
        before = token
    return found


def _skip_table(stream: Iterator[Token]) -> Token | None:
    """Consume INTO, TABLE or FUNCTION, and the name, so that a table may be called `values`; returns what follows."""
    token = next(stream, None)
    if token is not None and token.is_word(b"INTO"):
        token = next(stream, None)
    if token is not None and token.is_word(b"TABLE", b"FUNCTION"):
        token = next(stream, None)
    if token is not None and token.text == b"{":
        while token is not None and token.text != b"}":
            token = next(stream, None)
    token = next(stream, None)
    while token is not None and token.text == b".":
        next(stream, None)
        token = next(stream, None)
    return token


def _insert(text: bytes, settings_at: int | None, head_end: int, name: bytes, rows_at: int) -> Insert:
    target_end = head_end if settings_at is None else settings_at
    return Insert(text[:target_end].strip(), text[target_end:head_end].strip(), name, rows_at)


def _rows_after(text: bytes, position: int) -> int:
    """Rows begin after the first end of line behind the format's name, or after the blanks when there is none."""
    if text[position : position + 1] == b";":
        raise QueryError(62, "Syntax error: you have an excessive ';' before the data of INSERT")
    while text[position : position + 1] in (b" ", b"\t", b"\f"):
        position += 1
    if text[position : position + 1] == b"\r":
        position += 1
    if text[position : position + 1] == b"\n":
        position += 1
    return position
