"""Where the members of many JSON objects are, found in all of them at once.

Quotation marks, and the brackets, colons and commas outside of strings, give the structure of a document. numpy finds
them in the joined bytes of all documents, so there is no loop over documents, and a value is cut out as it is written:
no number passes through a float, and an object keeps its text.

Only for documents that are valid JSON objects: then strings and brackets are balanced in each of them, and none of them
can change what is found in its neighbours. Others raise Unbalanced, or give members of no meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Int64s = npt.NDArray[np.int64]

WHITESPACE: Final = " \t\r\n"
#: Whether a cell of Members is null, which is the same as left out.
IS_NULL: Final = (pl.col("value") == "null") & ~pl.col("is_text")

_OPENING, _CLOSING, _COMMA, _COLON, _QUOTE = range(1, 6)
_BACKSLASH, _SPACE = b"\\ "


def _kinds() -> bytes:
    """A kind for each byte; 0 is part of no structure."""
    table = bytearray(256)
    for characters, kind in (("{[", _OPENING), ("}]", _CLOSING), (",", _COMMA), (":", _COLON), ('"', _QUOTE)):
        for character in characters:
            table[ord(character)] = kind
    return bytes(table)


_KINDS: Final = _kinds()
_DEEPER: Final = np.array([0, 1, -1, 0, 0, 0], np.int8)
"""By kind: by how much it changes the depth."""


class Unbalanced(Exception):
    """The documents are not all valid: a text would end before it begins, or in another document."""


@dataclass(frozen=True, slots=True)
class Members:
    """Members of objects, in the order of the text. `row`: the document. `at`: the position of the colon in the joined
    documents, which rises. `cells` has the name, unescaped, `is_text`, and the value: unescaped if it is a text, else
    as it is written."""

    row: Int64s
    at: Int64s
    cells: pl.DataFrame


class JsonIndex:
    """The structure of documents, each a valid JSON object in UTF-8 that begins with its bracket."""

    def __init__(self, documents: Sequence[bytes]) -> None:
        self._data = b"".join(documents)
        self._bytes = np.frombuffer(self._data, np.uint8)
        kinds = np.frombuffer(self._data.translate(_KINDS), np.uint8)
        self._has_escapes = b"\\" in self._data
        if self._has_escapes:
            kinds = kinds.copy()
            kinds[self._escaped()] = 0
        # All that follows looks at these few characters alone.
        at = np.flatnonzero(kinds != 0)  # of booleans: of bytes it takes several times as long
        kind = kinds[at]
        is_quote = kind == _QUOTE
        quotes = np.cumsum(is_quote)
        outside = np.flatnonzero(~is_quote & (quotes & 1 == 0))
        self._quotes = at[np.flatnonzero(is_quote)]
        self._at, self._kind, self._quoted = at[outside], kind[outside], quotes[outside]
        self._depth = np.cumsum(_DEEPER[self._kind], dtype=np.int64)
        begins = (self._kind == _OPENING) & (self._depth == 1)
        sizes = np.fromiter(map(len, documents), np.int64, len(documents))
        if not np.array_equal(self._at[begins], np.cumsum(sizes) - sizes):
            raise Unbalanced
        self._row = np.cumsum(begins) - 1

    def members(self, depth: int) -> Members:
        """The members of all objects at this depth: 1 is the documents' own, 2 those of objects in them."""
        separates = (self._kind == _COMMA) | (self._kind == _COLON)
        chosen = np.flatnonzero(
            ((self._kind == _CLOSING) & (self._depth == depth - 1)) | (separates & (self._depth == depth))
        )
        # A colon's value ends at the next comma or closing bracket of the same depth.
        colons = np.flatnonzero(self._kind[chosen] == _COLON)
        if not len(colons):
            return Members(colons, colons, _NO_CELLS)
        if colons[-1] + 1 == len(chosen):
            raise Unbalanced
        colon, stop = chosen[colons], chosen[colons + 1]
        quotes = self._quoted[colon]
        if quotes[0] < 2:
            raise Unbalanced
        # Two quotation marks and no bracket until the end are a text.
        is_text = (stop - colon == 1) & (self._quoted[stop] - quotes == 2)
        first = quotes[is_text]
        begin, end = self._at[colon] + 1, self._at[stop]
        begin[is_text], end[is_text] = self._quotes[first] + 1, self._quotes[first + 1]
        names, values = self._cut(self._quotes[quotes - 2] + 1, self._quotes[quotes - 1], begin, end)
        cells = pl.DataFrame({"name": names, "is_text": is_text, "value": values})
        # Outside of texts, nothing of valid JSON but whitespace is as small as a space.
        if (self._bytes[[begin[~is_text], end[~is_text] - 1]] <= _SPACE).any():
            cells = cells.with_columns(value=_STRIPPED)
        return Members(self._row[colon], self._at[colon], _unescaped(cells) if self._has_escapes else cells)

    def _escaped(self) -> Int64s:
        """Positions of the characters behind a backslash that is not escaped itself."""
        slashes = np.flatnonzero(self._bytes == _BACKSLASH)
        begins = np.diff(slashes, prepend=-2) != 1
        first = np.maximum.accumulate(np.where(begins, slashes, 0))
        escaped: Int64s = slashes[(slashes - first) % 2 == 0] + 1
        if escaped[-1] == len(self._bytes):
            raise Unbalanced
        return escaped

    def _cut(self, *bounds: Int64s) -> tuple[pl.Series, pl.Series]:
        """The names and the values between positions that rise: where each name begins and ends, and each value.
        Nothing is copied: Arrow gets an array of all of them and of the gaps between."""
        offsets = np.stack(bounds, axis=1).ravel()
        if (np.diff(offsets) < 0).any() or offsets[-1] > len(self._data):
            raise Unbalanced  # Arrow would read memory that is not ours
        array = pa.Array.from_buffers(
            pa.large_string(), len(offsets) - 1, [None, pa.py_buffer(offsets.data), pa.py_buffer(self._data)]
        )
        texts = pl.Series(pl.from_arrow(array))
        return texts.gather_every(4), texts.gather_every(4, 2)


def _unescaped(cells: pl.DataFrame) -> pl.DataFrame:
    """Escapes are few, so only the texts that have some are read again."""
    marks = cells.select(_ESCAPED)
    for name in ("name", "value"):
        if (rows := marks[name].arg_true()).len():
            decoded = cells[name].gather(rows).to_frame().select(_DECODED).to_series()
            if decoded.null_count():
                raise Unbalanced
            cells = cells.with_columns(cells[name].scatter(rows, decoded))
    return cells


# Built once: expressions take longer to build than to apply to a small batch.
_STRIPPED: Final = pl.when("is_text").then("value").otherwise(pl.col("value").str.strip_chars(WHITESPACE))
_ESCAPED: Final = (
    pl.col("name").str.contains("\\", literal=True),
    pl.col("value").str.contains("\\", literal=True) & pl.col("is_text"),
)
_DECODED: Final = pl.concat_str(pl.lit('"'), pl.all(), pl.lit('"')).str.json_path_match("$")
_NO_CELLS: Final = pl.DataFrame(schema={"name": pl.String, "is_text": pl.Boolean, "value": pl.String})
