"""Columns of structs and maps as JSON objects: the texts that `json` writes, where they need no escapes.

Which texts are right is known for each row; the others (escapes, floats that Python writes in another way, a key twice)
may be anything and take the way of `record`.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterfold.frames.texts import is_text, text_of
from meterfold_schemas.avro_columns import joined, plain_in_json

__all__ = ["is_json", "is_object", "json_texts"]

_DEEPEST: Final = 20
_NULL: Final = b"null"
#: Between these Python and Arrow write the same digits without an exponent.
_FLOATS: Final = (1e-4, 1e9)


def is_object(kind: Any, depth: int = 0) -> bool:
    """Whether columns of this type are JSON objects that `json_texts` takes."""
    if pa.types.is_map(kind):
        return is_text(kind.key_type, integers=False) and is_json(kind.item_type, depth + 1)
    if not pa.types.is_struct(kind) or not kind.num_fields or depth >= _DEEPEST:
        return False
    names = [kind.field(place).name for place in range(kind.num_fields)]
    if len(set(names)) < len(names) or any(json.dumps(name, ensure_ascii=False) != f'"{name}"' for name in names):
        return False
    return all(is_json(kind.field(place).type, depth + 1) for place in range(kind.num_fields))


def is_json(kind: Any, depth: int = 0) -> bool:
    """Whether `json_texts` takes columns of this type."""
    return (
        is_text(kind, integers=True)
        or pa.types.is_boolean(kind)
        or pa.types.is_float32(kind)
        or pa.types.is_float64(kind)
        # A map inside of another value is a list of pairs to Python.
        or (pa.types.is_struct(kind) and is_object(kind, depth))
    )


def json_texts(column: Any) -> tuple[Any, Any]:
    """(the JSON of each value as a binary array without nulls, which of them are right)."""
    kind = column.type
    if pa.types.is_struct(kind):
        texts, right = _struct(column)
    elif pa.types.is_map(kind):
        texts, right = _map(column)
    elif pa.types.is_floating(kind):
        texts, right = _floats(column.cast(pa.float64()))
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        texts, right = column.cast(pa.string()).view(pa.binary()), np.ones(len(column), bool)
    else:
        strings = text_of(column)
        texts = strings.fill_null("") if strings.null_count else strings
        right = plain_in_json(texts)
        texts = joined(b'"', texts.view(pa.binary()), b'"')
    if not column.null_count:
        return texts, right
    present = column.is_valid()
    texts = pc.if_else(present, texts, pa.scalar(_NULL, pa.binary()))
    return texts.fill_null(_NULL), right | ~present.to_numpy(zero_copy_only=False)


def _struct(column: Any) -> tuple[Any, Any]:
    right = np.ones(len(column), bool)
    pieces: list[Any] = []
    for place, values in enumerate(column.flatten()):
        texts, fine = json_texts(values)
        right &= fine
        name = column.type.field(place).name
        pieces += [f'{"," if place else "{"}"{name}":'.encode(), texts]
    return joined(*pieces, b"}"), right


def _map(column: Any) -> tuple[Any, Any]:
    offsets = column.offsets.to_numpy()
    first, last = int(offsets[0]), int(offsets[-1])
    # A row without a map may span entries that belong to no row.
    keys = text_of(column.keys.slice(first, last - first))
    values, fine = json_texts(column.items.slice(first, last - first))
    fine = fine & plain_in_json(keys)
    pairs = joined(b'"', keys.view(pa.binary()), b'":', values)
    starts = (offsets - first).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(starts), pairs)
    texts = joined(b"{", pc.binary_join(lists, b","), b"}")
    wrong = np.zeros(len(pairs) + 1, np.int64)
    np.cumsum(~fine, out=wrong[1:])
    right = wrong[starts[1:]] == wrong[starts[:-1]]
    # Of a key that is there twice, the last value counts.
    row_of = np.repeat(np.arange(len(column)), np.diff(starts))
    found = keys.dictionary_encode()
    codes = row_of * max(1, len(found.dictionary)) + found.indices.to_numpy()
    _, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    right[row_of[counts[inverse] > 1]] = False
    return texts, right


def _floats(column: Any) -> tuple[Any, Any]:
    numbers = column.fill_null(0.0).to_numpy() if column.null_count else column.to_numpy()
    size = np.abs(numbers)
    right = ((size >= _FLOATS[0]) & (size < _FLOATS[1])) | (numbers == 0)
    texts = pa.array(numbers).cast(pa.string()).view(pa.binary())
    with np.errstate(invalid="ignore"):
        whole = numbers == np.rint(numbers)
    if whole.any():
        texts = pc.if_else(pa.array(whole), joined(texts, b".0"), texts)
    return texts, right
