"""Subjects as two hashes each, so that a window needs no name in memory. Only for memory: never stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import polars as pl
import polars_hash as plh
import pyarrow as pa
import pyarrow.compute as pc

from meterfold_processor.checker.panes import Subject, SubjectHashes
from meterfold_schemas.keys import SUBJECT

__all__ = ["hashes_of", "hashes_of_subjects"]

_SEPARATOR: Final = "\0"
"""In none of the four: the SDK and the fold refuse it."""
_SEED: Final = 0x4D46


def hashes_of(names: pa.RecordBatch) -> SubjectHashes:
    """Of the four columns of a subject, as large_string."""
    columns: list[Any] = [names.column(name) for name in SUBJECT]
    joined: Any = pc.binary_join_element_wise(*columns, pa.scalar(_SEPARATOR, pa.large_string()))
    texts = pl.DataFrame({"subject": pl.Series(joined, dtype=pl.String)})
    key = texts.select(plh.col("subject").nchash.xxhash64())["subject"].to_numpy()
    check = texts["subject"].hash(_SEED).to_numpy() >> np.uint64(32)
    return SubjectHashes(key, check.astype(np.uint32))


def hashes_of_subjects(subjects: Iterable[Subject]) -> SubjectHashes:
    columns = list(zip(*subjects, strict=True)) or [()] * len(SUBJECT)
    arrays: list[Any] = [pa.array(column, pa.large_string()) for column in columns]
    return hashes_of(pa.RecordBatch.from_arrays(arrays, list(SUBJECT)))
