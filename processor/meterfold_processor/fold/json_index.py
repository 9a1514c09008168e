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
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

Int64s = npt.NDArray[np.int64]

WHITESPACE: Final = " \t\r\n"

_QUOTE, _BACKSLASH, _COLON = b'"\\:'
_OPENING, _CLOSING = 1, 2
_POINT: Final = 3


def _kinds() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)
    table[list(b"{[")] = _OPENING
    table[list(b"}]")] = _CLOSING
    table[list(b":,")] = _POINT
    return table


_KINDS: Final = _kinds()


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
        sizes = np.fromiter(map(len, documents), np.int64, len(documents))
        self._starts = np.cumsum(sizes) - sizes
        self._bytes = np.frombuffer(self._data, np.uint8)
        quotes = self._bytes == _QUOTE
        quotes[self._escaped()] = False
        self._quotes = np.flatnonzero(quotes)
        # 1 from an opening quotation mark up to its closing one, which is outside again.
        inside = np.bitwise_xor.accumulate(quotes.view(np.uint8))
        kinds = _KINDS[self._bytes]
        kinds[inside != 0] = 0
        self._at = np.flatnonzero(kinds)
        self._kind = kinds[self._at]
        self._depth = np.cumsum((self._kind == _OPENING).astype(np.int64) - (self._kind == _CLOSING))

    def members(self, depth: int) -> Members:
        """The members of all objects at this depth: 1 is the documents' own, 2 those of objects in them."""
        closing = (self._kind == _CLOSING) & (self._depth == depth - 1)
        chosen = closing | ((self._kind == _POINT) & (self._depth == depth))
        at = self._at[chosen]
        # A colon's value ends at the next comma or closing bracket of the same depth.
        colons = np.flatnonzero(self._bytes[at] == _COLON)
        closes = np.searchsorted(self._quotes, at[colons]) - 1
        if len(colons) and (colons[-1] + 1 == len(at) or closes[0] < 1):
            raise Unbalanced
        colon, stop = at[colons], at[colons + 1]
        names = self._cut(self._quotes[closes - 1] + 1, self._quotes[closes])
        names, values = self._cut(self._quotes[closes - 1] + 1, self._quotes[closes]), self._cut(colon + 1, stop)
        cells = pl.DataFrame({"name": names, "value": values}).select(_CELLS)
        row = np.searchsorted(self._starts, colon, side="right") - 1
        return Members(row, colon, _unescaped(cells))

    def _escaped(self) -> Int64s:
        """Positions of the characters behind a backslash that is not escaped itself."""
        slashes = np.flatnonzero(self._bytes == _BACKSLASH)
        if not len(slashes):
            return slashes
        begins = np.diff(slashes, prepend=-2) != 1
        first = np.maximum.accumulate(np.where(begins, slashes, 0))
        escaped: Int64s = slashes[(slashes - first) % 2 == 0] + 1
        if escaped[-1] == len(self._bytes):
            raise Unbalanced
        return escaped

    @cached_property
    def _buffer(self) -> pa.Buffer:
        return pa.py_buffer(self._data)

    def _cut(self, starts: Int64s, stops: Int64s) -> pl.Series:
        """The texts between positions that rise, without copying them: an array of texts and of the gaps between."""
        if not len(starts):
            return pl.Series(dtype=pl.String)
        offsets = np.empty(2 * len(starts), np.int64)
        offsets[::2], offsets[1::2] = starts, stops
        if (np.diff(offsets) < 0).any() or offsets[-1] > len(self._data):
            raise Unbalanced  # Arrow would read memory that is not ours
        array = pa.Array.from_buffers(
            pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets.tobytes()), self._buffer]
        )
        texts = pl.Series(pl.from_arrow(array)).gather_every(2)
        return texts.cast(pl.String)


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


def _cells() -> tuple[pl.Expr, ...]:
    written = pl.col("value").str.strip_chars(WHITESPACE)
    is_text = written.str.starts_with('"')
    return (
        pl.col("name"),
        is_text.alias("is_text"),
        pl.when(is_text).then(written.str.slice(1).str.head(-1)).otherwise(written).alias("value"),
    )


# Built once: expressions take longer to build than to apply to a small batch.
_CELLS: Final = _cells()
_ESCAPED: Final = (
    pl.col("name").str.contains("\\", literal=True),
    pl.col("value").str.contains("\\", literal=True) & pl.col("is_text"),
)
_DECODED: Final = pl.concat_str(pl.lit('"'), pl.all(), pl.lit('"')).str.json_path_match("$")
