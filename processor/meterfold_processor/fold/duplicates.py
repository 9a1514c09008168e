"""Which events are duplicates: decided exactly, and the same in every order of batches and restarts.

An event is a duplicate when the same identity (subject and id; neither quantity nor time is part of it) was *counted*
at a smaller offset of its partition, with a broker stamp no older than the look-back before this event's own stamp.
There is no upper bound: stamps step back when another broker leads. At the same offset it is a replay. An identity
that merely *stood* at a smaller offset, rejected or itself a duplicate, counts for nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash as plh

from meterfold_schemas import usage_fields

Int64s = npt.NDArray[np.int64]

IDENTITY = list(usage_fields.IDENTITY)

COUNTED_SCHEMA: dict[str, pl.DataType] = {
    **dict.fromkeys(IDENTITY, pl.String()),
    "offset": pl.Int64(),
    "stamp": pl.Int64(),
    "hash": pl.UInt64(),
}
"""A record that was counted: identity, offset, broker stamp in UTC microseconds, and the hash of the identity."""

UNIQUE = -1
"""In place of the counted offset of an event that is not a duplicate."""


def identity_hash() -> pl.Expr:
    """The hash of an event's identity, from its `key` and `id`: what `usage_records.identity_hash` holds."""
    return plh.concat_str(pl.col("key").cast(pl.String), pl.col("id")).nchash.xxhash64()


def counted_before(candidates: pl.DataFrame, counted: pl.DataFrame, lookback: int) -> Int64s:
    """For each candidate the smallest offset at which its identity was counted before, or UNIQUE.

    The smallest, so that a duplicate names the same event however the log was cut into batches.

    `counted` are records of the same partition (COUNTED_SCHEMA), in any order and possibly repeated.
    """
    pairs = candidates.with_row_index("candidate").join(
        counted.select(*IDENTITY, pl.col("offset").alias("counted_offset"), pl.col("stamp").alias("counted_stamp")),
        on=IDENTITY,
        how="inner",
    )
    pairs = pairs.filter(
        (pl.col("counted_offset") < pl.col("offset")) & (pl.col("counted_stamp") >= pl.col("stamp") - lookback)
    )
    best = pairs.group_by("candidate").agg(pl.col("counted_offset").min())
    offsets = np.full(candidates.height, UNIQUE, dtype=np.int64)
    offsets[best["candidate"].to_numpy()] = best["counted_offset"].to_numpy()
    return offsets


def counted_within(candidates: pl.DataFrame, lookback: int) -> Int64s:
    """The same among the candidates themselves, none of which was counted before the batch; offsets rise."""
    offsets = np.full(candidates.height, UNIQUE, dtype=np.int64)
    if candidates.height < 2:
        return offsets
    grouped = candidates.with_row_index("candidate").with_columns(
        first=pl.col("offset").first().over(IDENTITY),
        first_stamp=pl.col("stamp").first().over(IDENTITY),
    )
    later = grouped.filter(pl.col("offset") != pl.col("first"))
    near = later.filter(pl.col("stamp") - pl.col("first_stamp") <= lookback)
    offsets[near["candidate"].to_numpy()] = near["first"].to_numpy()
    if near.height < later.height:
        _decide_one_by_one(grouped, later, offsets, lookback)
    return offsets


def _decide_one_by_one(grouped: pl.DataFrame, later: pl.DataFrame, offsets: Int64s, lookback: int) -> None:
    """Identities that came again within one batch and yet after the look-back: only a stalled topic has them."""
    far = later.filter(pl.col("stamp") - pl.col("first_stamp") > lookback).select("first").unique()
    rows = grouped.join(far, on="first", how="semi", maintain_order="left")
    counted: dict[int, list[tuple[int, int]]] = {}
    for candidate, offset, stamp, first in rows.select("candidate", "offset", "stamp", "first").iter_rows():
        before = counted.setdefault(first, [])
        matching = [o for o, s in before if s >= stamp - lookback]
        offsets[candidate] = min(matching, default=UNIQUE)
        if not matching:
            before.append((offset, stamp))
