"""Columns of bytes: Avro values built from columns of numbers, joined, taken apart.

Only for processes that have numpy and pyarrow; nothing else in this package imports it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "big_endian",
    "bytes_list",
    "joined",
    "of_matrix",
    "plain_in_json",
    "printable_ascii",
    "texts",
    "varints",
    "without_nul",
]

_BYTE: Final = np.uint8


def of_matrix(cells: Any, lengths: Any, *, right: bool = False) -> Any:
    """A binary array whose row i has the first `lengths[i]` bytes of the matrix's row i, or with `right` the last."""
    rows, width = cells.shape
    if not rows:
        return pa.array([], pa.binary())
    shortest = int(lengths.min())
    if shortest == int(lengths.max()):
        kept = np.ascontiguousarray(cells[:, width - shortest :] if right else cells[:, :shortest])
        ends = np.arange(rows + 1, dtype=np.int32) * shortest
    else:
        places = np.arange(width)
        mask = places >= (width - lengths)[:, None] if right else places < lengths[:, None]
        kept = cells[mask]
        ends = np.zeros(rows + 1, np.int32)
        np.cumsum(lengths, out=ends[1:])
    parts: list[Any] = [ends, kept]
    return pa.Array.from_buffers(pa.binary(), rows, [None, *map(pa.py_buffer, parts)])


def varints(values: Any) -> Any:
    """Avro's long of each int64: zigzag, seven bits per byte, the lowest first."""
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    lengths = np.ones(len(values), np.int64)
    for size in range(1, 10):
        lengths += zigzag >= np.uint64(1 << 7 * size)
    width = int(lengths.max(initial=1))
    cells = np.empty((len(values), width), _BYTE)
    for place in range(width):
        cells[:, place] = (zigzag >> np.uint64(7 * place)).astype(_BYTE) | _BYTE(0x80)
    cells[np.arange(len(values)), lengths - 1] &= _BYTE(0x7F)
    return of_matrix(cells, lengths)


def big_endian(high: Any, low: Any) -> Any:
    """Avro's bytes of a decimal with their length in front: two's complement in as few bytes as hold it. `high` and
    `low` are the limbs (int64, uint64) of 128 bits; `high` None: `low` is int64 and all there is."""
    if high is None:
        magnitude = (low ^ (low >> 63)).view(np.uint64)
        lengths = np.ones(len(low), np.int64)
        for size in range(1, 8):
            lengths += magnitude >= np.uint64(1 << 8 * size - 1)
        numbers = low.astype(">i8").view(_BYTE).reshape(-1, 8)
    else:
        sign = high >> 63
        upper = (high ^ sign).view(np.uint64)
        lower = low ^ sign.view(np.uint64)
        lengths = np.ones(len(low), np.int64)
        for size in range(1, 9):
            lengths += (upper > 0) | (lower >= np.uint64(1 << 8 * size - 1))
        for size in range(1, 8):
            lengths += upper >= np.uint64(1 << 8 * size - 1)
        numbers = np.empty((len(low), 16), _BYTE)
        numbers[:, :8] = high.astype(">i8").view(_BYTE).reshape(-1, 8)
        numbers[:, 8:] = low.astype(">u8").view(_BYTE).reshape(-1, 8)
    width = numbers.shape[1]
    used = int(lengths.max(initial=1))
    cells = np.empty((len(low), used + 1), _BYTE)
    cells[:, 1:] = numbers[:, width - used :]
    # The length is right before the first byte that is kept.
    cells[np.arange(len(low)), used - lengths] = (lengths * 2).astype(_BYTE)
    return of_matrix(cells, lengths + 1, right=True)


def joined(*pieces: Any) -> Any:
    """The pieces of each row one after the other; bytes are the same for every row."""
    together: list[Any] = []
    for piece in pieces:
        if isinstance(piece, bytes) and together and isinstance(together[-1], bytes):
            together[-1] += piece  # each piece costs something for every row
        else:
            together.append(piece)
    return pc.binary_join_element_wise(*together, b"")


def bytes_list(column: Any) -> list[bytes]:
    """The values as bytes. Arrow makes the objects itself: three times as fast as slices of one buffer, and many times
    as fast as `to_pylist`, which makes a scalar of each."""
    found: list[bytes] = column.to_numpy(zero_copy_only=False).tolist()
    return found


def texts(column: Any) -> tuple[Any, Any]:
    """Avro's string of each value of a string column without nulls: pieces for `joined`."""
    return varints(pc.binary_length(column).to_numpy().astype(np.int64)), column.view(pa.binary())


def plain_in_json(texts: Any) -> Any:
    """Which texts are in JSON as they are, between quotes."""
    return _without(texts, "", r'[\x00-\x1f"\\]', _has_special)


def without_nul(texts: Any) -> Any:
    """Which texts have no NUL character."""
    return _without(texts, "\0", rb"\x00", _has_nul)


def printable_ascii(texts: Any) -> Any:
    """Which texts have only the characters from space to tilde."""
    return _without(texts, "", r"[^ -~]", _has_other_than_printable)


def _without(texts: Any, exact: str, pattern: Any, any_in: Any) -> Any:
    """Which texts are without the characters; looks at single texts only where the column has one of them."""
    _, ends, data = texts.buffers()
    rows = len(texts)
    if not rows or data is None:
        return np.ones(rows, bool)
    first, last = np.frombuffer(ends, np.int32, rows + 1, 4 * texts.offset)[[0, -1]]
    if not any_in(np.frombuffer(data, np.uint8, int(last - first), int(first))):
        return np.ones(rows, bool)
    found = pc.match_substring(texts, exact) if exact else pc.match_substring_regex(texts, pattern)
    return ~found.to_numpy(zero_copy_only=False)


def _has_nul(data: Any) -> bool:
    return bool((data == 0).any())


def _has_special(data: Any) -> bool:
    return bool(((data < 0x20) | (data == ord('"')) | (data == ord("\\"))).any())


def _has_other_than_printable(data: Any) -> bool:
    return bool(((data < 0x20) | (data > 0x7E)).any())
