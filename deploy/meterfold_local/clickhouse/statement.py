"""Where an INSERT's rows begin, which output format a statement asks for, which files it names.

The tokens are ClickHouse's, as far as that needs them. Where this lexer and the engine's disagree, a statement is cut
at another place and the engine reports a syntax error.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from meterfold_local.clickhouse.errors import QueryError

LEX_LIMIT = 64 * 1024
"""Of a longer text only the end is searched for FORMAT (lists of a million hashes): the clause is at the end."""

_TOKEN = re.compile(
    rb"""
    (?P<gap> [\s\x00]+ | --[^\n]* | \#(?=[\s!])[^\n]* | /\*.*?\*/ )
  | (?P<string> '(?:[^'\\]|\\.|'')*' | \$(?P<tag>\w*)\$ .*? \$(?P=tag)\$ )
  | (?P<quoted> `(?:[^`\\]|\\.|``)*` | "(?:[^"\\]|\\.|"")*" )
  | (?P<word> [A-Za-z_\x80-\xff][\w\x80-\xff]* )
  | (?P<number> \d[\w.]* )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `kind` is the name of a group of _TOKEN."""

    kind: str
    text: bytes
    start: int
    end: int

    def is_word(self, *words: bytes) -> bool:
        """One of these keywords (given in capitals)?"""
        return self.kind == "word" and self.text.upper() in words


@dataclass(frozen=True, slots=True)
class Insert:
    """An INSERT whose rows follow the statement: `INSERT INTO t (a) FORMAT CSV` and then bytes.

    target     the statement up to where FROM INFILE may be written
    settings   its SETTINGS clause, or nothing
    format     name of the input format; VALUES is "Values"
    rows_at    where the rows begin in the text that was searched
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


def tokens(sql: bytes, start: int = 0) -> Iterator[Token]:
    """Every token from `start` on, without white space and comments."""
    for match in _TOKEN.finditer(sql, start):
        if (kind := match.lastgroup or "other") != "gap":
            # The tag of a heredoc is a group inside the string's.
            yield Token("string" if kind == "tag" else kind, match.group(), match.start(), match.end())


def first_word(sql: bytes) -> bytes:
    """The first keyword in capitals, parentheses skipped; b"" when there is none."""
    for token in tokens(sql):
        if token.kind == "word":
            return token.text.upper()
        if token.text != b"(":
            break
    return b""


def insert_of(text: bytes) -> Insert | None:
    """The INSERT with rows that this text starts with; None for any other statement (also INSERT ... SELECT)."""
    stream = tokens(text)
    first = next(stream, None)
    if first is None or not first.is_word(b"INSERT"):
        return None
    settings_at: int | None = None
    for token, following in _top_level(_skip_table(stream)):
        if token.is_word(b"SELECT", b"WITH", b"WATCH", b"FROM"):
            return None
        if token.is_word(b"SETTINGS") and settings_at is None:
            settings_at = token.start
        if token.is_word(b"VALUES"):
            name, rows_at = b"Values", token.end
        elif token.is_word(b"FORMAT") and following is not None and following.kind == "word":
            name, rows_at = following.text, _rows_after(text, following.end)
        else:
            continue
        target_end = token.start if settings_at is None else settings_at
        return Insert(text[:target_end].strip(), text[target_end : token.start].strip(), name, rows_at)
    return None


def output_format(sql: bytes, known: Collection[bytes]) -> bytes | None:
    """The format that a FORMAT clause asks for, None without one. `known` are the engine's format names."""
    text = sql[-LEX_LIMIT:]
    if b"FORMAT" not in text.upper():
        return None
    found = None
    for token, following in _top_level(tokens(text)):
        if token.is_word(b"FORMAT") and following is not None and following.text in known:
            found = following.text
    return found


def without_rows(sql: bytes, known: Collection[bytes]) -> bytes:
    """A SELECT with the columns of this one and no row, for whose result the engine reads no table."""
    clause = None
    for token, following in _top_level(tokens(sql)):
        if token.is_word(b"FORMAT") and following is not None and following.text in known:
            clause = token, following
    if clause is not None:
        sql = sql[: clause[0].start] + sql[clause[1].end :]
    return b"SELECT * FROM (\n%s\n) WHERE 0" % sql.rstrip(b"; \t\r\n")


def file_clause(sql: bytes) -> str | None:
    """OUTFILE or INFILE, when this statement, as the engine's formatter writes it, reads or writes a file."""
    for token, following in pairwise(tokens(sql)):
        if token.is_word(b"OUTFILE", b"INFILE") and following.kind == "string":
            return token.text.decode().upper()
    return None


def structure(description: Mapping[str, str]) -> bytes:
    """The columns of an external table, from its `structure` or its `types` (columns _1, _2, ...)."""
    if text := description.get("structure"):
        return text.encode(errors="surrogateescape")
    if text := description.get("types"):
        types = split_types(text.encode(errors="surrogateescape"))
        return b", ".join(b"_%d %s" % (number, kind) for number, kind in enumerate(types, 1))
    raise QueryError(36, "an external table needs its _structure or its _types")


def split_types(text: bytes) -> list[bytes]:
    """Split at the commas outside parentheses and quotes: `UInt8, Decimal(38, 9)` are two."""
    commas = [token for token, _ in _top_level(tokens(text)) if token.text == b","]
    starts = [0, *(comma.end for comma in commas)]
    ends = [*(comma.start for comma in commas), len(text)]
    return [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]


def _top_level(stream: Iterator[Token]) -> Iterator[tuple[Token, Token | None]]:
    """The tokens outside parentheses and brackets, each with the token behind it."""
    depth = 0
    token = next(stream, None)
    while token is not None:
        following = next(stream, None)
        if token.text in (b"(", b"["):
            depth += 1
        elif token.text in (b")", b"]"):
            depth = max(depth - 1, 0)
        elif depth == 0:
            yield token, following
        token = following


def _skip_table(stream: Iterator[Token]) -> Iterator[Token]:
    """What follows INTO, TABLE or FUNCTION, and the name: a table may be called `values`."""
    token = next(stream, None)
    if token is not None and token.is_word(b"INTO"):
        token = next(stream, None)
    if token is not None and token.is_word(b"TABLE", b"FUNCTION"):
        token = next(stream, None)
    if token is not None and token.text == b"{":  # {table:Identifier}
        token = next((end for end in stream if end.text == b"}"), None)
    token = next(stream, None)
    while token is not None and token.text == b".":
        next(stream, None)
        token = next(stream, None)
    if token is not None:
        yield token
    yield from stream


def _rows_after(text: bytes, position: int) -> int:
    """Rows begin after the first end of line behind the format's name, or after the blanks when there is none."""
    if text[position : position + 1] == b";":
        raise QueryError(62, "Syntax error: you have an excessive ';' before the data of INSERT")
    while text[position : position + 1] in (b" ", b"\t", b"\f"):
        position += 1
    for end in (b"\r", b"\n"):
        if text[position : position + 1] == end:
            position += 1
    return position
