"""Metadata columns: text that is plainly a JSON object, and structs and maps, which become one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterfold.frames.json_columns import is_object, json_texts
from meterfold.frames.texts import is_text, text_of
from meterfold_schemas.framing import avro_long
from meterfold_schemas.usage_rules import MAX_METADATA_BYTES

__all__ = ["encoded", "takes"]

_STRING: Final = r'"[^"\\\x00-\x1f]*"'
_SPACE: Final = r"[ \t\n\r]*"
_NUMBER: Final = r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?"
_MEMBER: Final = rf"{_STRING}{_SPACE}:{_SPACE}({_STRING}|{_NUMBER}|true|false|null)"
#: Objects without nesting, escapes and exponents: nothing in them can break another rule of metadata but its size.
_FLAT: Final = rf"^{_SPACE}\{{{_SPACE}({_MEMBER}({_SPACE},{_SPACE}{_MEMBER})*)?{_SPACE}\}}{_SPACE}$"
_SIZES: Final = pa.array([b"\0", *(b"\x02" + avro_long(size) for size in range(MAX_METADATA_BYTES + 1))], pa.binary())


def takes(kind: Any, *, objects: bool) -> bool:
    """Whether `encoded` takes columns of this type; structs and maps only with `objects`."""
    return is_text(kind, integers=False) or (objects and is_object(kind))


def encoded(column: Any) -> tuple[Any, tuple[Any, ...]]:
    """(which rows are certainly valid, their encoded form)."""
    present = column.is_valid().to_numpy(zero_copy_only=False)
    if is_object(column.type):
        filled, flat = json_texts(column)
    else:
        texts = text_of(column)
        present = texts.is_valid().to_numpy(zero_copy_only=False)
        filled = texts.fill_null("")
        flat = pc.match_substring_regex(filled, _FLAT).to_numpy(zero_copy_only=False)
    lengths = pc.binary_length(filled).to_numpy()
    valid = ~present | (flat & (lengths <= MAX_METADATA_BYTES))
    places: Any = np.where(present, np.minimum(lengths, MAX_METADATA_BYTES) + 1, 0).astype(np.int32)
    body = filled.view(pa.binary())
    if is_object(column.type) and column.null_count:
        body = pc.if_else(column.is_valid(), body, pa.scalar(b"", pa.binary()))
    return valid, (_SIZES.take(places), body)
