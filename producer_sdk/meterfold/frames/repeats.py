"""Which rows of a table have the identity of an earlier row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterfold.frames.texts import text_of
from meterfold_schemas.usage_fields import IDENTITY

__all__ = ["earlier_rows"]


def earlier_rows(table: Any, default_org: str) -> dict[int, int]:
    """row -> the last row before it with the same identity, of rows whose identity is there as a whole.

    Most tables have no id twice, which takes one pass over the ids; only the others are looked at further.
    """
    if "id" not in table.schema.names:
        return {}
    ids = _texts(table["id"])
    if pc.count_distinct(ids, mode="only_valid").as_py() == len(ids) - ids.null_count:
        return {}
    codes = np.zeros(table.num_rows, np.int64)
    known = np.ones(table.num_rows, bool)
    size = 1
    for name in IDENTITY:
        if name not in table.schema.names:
            continue  # one value for all
        column = _texts(table[name])
        if name == "org_id":
            column = column.fill_null(default_org)
        if column.null_count:
            known &= column.is_valid().to_numpy(zero_copy_only=False)
            column = column.fill_null("")
        found = column.dictionary_encode()
        if size * len(found.dictionary) >= 2**62:
            _, codes = np.unique(codes, return_inverse=True)
            size = int(codes.max(initial=0)) + 1
        codes = codes * len(found.dictionary) + found.indices.to_numpy()
        size *= len(found.dictionary)
    rows = np.flatnonzero(known)
    order = rows[np.argsort(codes[rows], kind="stable")]
    same = codes[order[1:]] == codes[order[:-1]]
    return dict(zip(order[1:][same].tolist(), order[:-1][same].tolist(), strict=True))


def _texts(column: Any) -> Any:
    """One array with 64-bit offsets: the texts of a whole table may take more than 2 GB."""
    whole = pa.chunked_array([text_of(chunk).cast(pa.large_string()) for chunk in column.chunks], pa.large_string())
    return whole.combine_chunks()
