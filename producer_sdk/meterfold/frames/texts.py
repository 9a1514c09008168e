"""Text columns: which values keep the rules, and their encoded form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterfold_schemas.avro_columns import without_nul
from meterfold_schemas.framing import avro_long
from meterfold_schemas.usage_rules import MAX_TEXT_BYTES

__all__ = ["Text", "is_text", "optional_text", "required_text", "text_of"]

_EMPTY: Final = ""


def _table(prefix: bytes) -> Any:
    return pa.array([prefix + avro_long(size) for size in range(MAX_TEXT_BYTES + 1)], pa.binary())


_SIZES: Final = _table(b"")
#: What precedes an optional text, by its length + 1; 0: no text.
_OPTIONAL_SIZES: Final = pa.concat_arrays([pa.array([b"\0"], pa.binary()), _table(b"\x02")])


@dataclass(frozen=True, slots=True)
class Text:
    """`texts` has no nulls; where `valid` is not set they may be anything. `encoded`: pieces for `joined`."""

    texts: Any
    valid: Any
    encoded: tuple[Any, ...]


def is_text(kind: Any, *, integers: bool) -> bool:
    """Whether `text_of` takes columns of this type."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type, integers=False)
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
        or (integers and pa.types.is_integer(kind))
    )


def text_of(column: Any) -> Any:
    """The column as strings with 32-bit offsets; integers as their decimal text."""
    if pa.types.is_dictionary(column.type):
        return text_of(column.dictionary).take(column.indices)
    return column if column.type == pa.string() else column.cast(pa.string())


def required_text(column: Any, *, empty: bool = False) -> Text:
    """A column of an event's required text; `empty`: the empty text is a value."""
    valid = _not_null(column)
    texts = column.fill_null(_EMPTY) if column.null_count else column
    sizes = pc.binary_length(texts)
    lengths = sizes.to_numpy()
    valid &= lengths <= MAX_TEXT_BYTES
    if not empty:
        valid &= lengths > 0
    valid &= without_nul(texts)
    encoded = _SIZES.take(_clipped(lengths, MAX_TEXT_BYTES)), texts.view(pa.binary())
    return Text(texts, valid, encoded)


def optional_text(column: Any) -> Text:
    present = _not_null(column)
    texts = column.fill_null(_EMPTY) if column.null_count else column
    lengths = pc.binary_length(texts).to_numpy()
    valid = (lengths <= MAX_TEXT_BYTES) & without_nul(texts)
    places = np.where(present, lengths + 1, 0)
    encoded = _OPTIONAL_SIZES.take(_clipped(places, MAX_TEXT_BYTES + 1)), texts.view(pa.binary())
    return Text(texts, valid, encoded)


def _not_null(column: Any) -> Any:
    if not column.null_count:
        return np.ones(len(column), bool)
    return column.is_valid().to_numpy(zero_copy_only=False)


def _clipped(places: Any, most: int) -> Any:
    return pa.array(np.minimum(places, most).astype(np.int32))
