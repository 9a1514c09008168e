"""Metadata columns: text that is plainly a JSON object."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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


def takes(kind: Any) -> bool:
    """Whether `encoded` takes columns of this type."""
    return is_text(kind, integers=False)


def encoded(column: Any) -> tuple[Any, tuple[Any, ...]]:
    """(which rows are certainly valid, their encoded form)."""
    texts = text_of(column)
    present = texts.is_valid().to_numpy(zero_copy_only=False)
    filled: Any = texts.fill_null("")
    lengths = pc.binary_length(filled).to_numpy()
    flat = pc.match_substring_regex(filled, _FLAT).to_numpy(zero_copy_only=False)
    valid = ~present | (flat & (lengths <= MAX_METADATA_BYTES))
    places: Any = np.where(present, np.minimum(lengths, MAX_METADATA_BYTES) + 1, 0).astype(np.int32)
    return valid, (_SIZES.take(places), filled.view(pa.binary()))
