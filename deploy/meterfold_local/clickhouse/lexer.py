"""ClickHouse's tokens, as far as finding the start of the rows and the output format needs them.

Never used to decide what is safe: the guard asks the engine's own parser. Where this lexer and the engine's disagree, a
statement is cut at another place and the engine reports a syntax error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    WORD = "word"
    QUOTED = "quoted"
    STRING = "string"
    OTHER = "other"


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
    kind: Kind
    text: bytes
    start: int
    end: int

    def is_word(self, *words: bytes) -> bool:
        """One of these keywords (given in capitals)?"""
        return self.kind is Kind.WORD and self.text.upper() in words


def tokens(sql: bytes, start: int = 0) -> Iterator[Token]:
    """Every token from `start` on, without white space and comments."""
    for match in _TOKEN.finditer(sql, start):
        group = match.lastgroup
        if group == "gap":
            continue
        # The heredoc's tag is a group inside of the string's.
        kind = {"word": Kind.WORD, "quoted": Kind.QUOTED, "string": Kind.STRING, "tag": Kind.STRING}.get(
            group or "", Kind.OTHER
        )
        yield Token(kind, match.group(), match.start(), match.end())
