"""False hits of identity tables, dismissed without a look at the records.

A table claims one identity in some thousands that it does not hold. The last 32 bits of each of its hashes are stored
beside it, by piece: a hit whose last bits are not among those of its piece was not counted. What cannot be dismissed is
looked up in `usage_records`, so a piece that was lost or damaged costs no more than that look-up.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from meterfold_processor.fold.compact import Version, last_bits, piece_of
from meterfold_processor.fold.remembered import Candidates
from meterfold_processor.fold.store import IdentityHistory

UInt64s = npt.NDArray[np.uint64]

MOST = 1_000
"""More hits of one table in one batch are events that were sent again: the records of them are needed anyway."""


def dismiss(claims: list[Candidates], sorted_hashes: UInt64s, history: IdentityHistory) -> list[Candidates]:
    """The claims without those of tables that turn out to be false."""
    hits: dict[tuple[Version, int], list[int]] = {}
    for claim in claims:
        if claim.version is not None and np.count_nonzero(claim.rows) <= MOST:
            rows = np.flatnonzero(claim.rows)
            numbers = piece_of(sorted_hashes[rows], claim.version.bits)
            for row, number in zip(rows.tolist(), numbers.tolist(), strict=True):
                hits.setdefault((claim.version, number), []).append(row)
    if not hits:
        return claims
    false: dict[Version, list[int]] = {}
    for one in history.load_rests(list(hits)):
        if zlib.crc32(one.rests.tobytes()) != one.checksum:
            continue
        rows_of_piece = np.array(hits[one.version, one.number])
        known = np.isin(last_bits(sorted_hashes[rows_of_piece]), one.rests)
        false.setdefault(one.version, []).extend(rows_of_piece[~known].tolist())
    found = []
    for claim in claims:
        if claim.version in false:
            rows_left = claim.rows.copy()
            rows_left[false[claim.version]] = False
            claim = replace(claim, rows=rows_left)
        if claim.rows.any():
            found.append(claim)
    return found
