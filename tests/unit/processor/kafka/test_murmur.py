"""murmur2 of a column against the one of the schemas, which is checked against Kafka's own values."""

from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.kafka import murmur
from meterfold_schemas.keys import murmur2, partition_of


@given(st.lists(st.binary(max_size=40)), st.integers(1, 1000))
def test_partitions(keys: list[bytes], partition_count: int) -> None:
    column = pl.Series(keys, dtype=pl.Binary)
    assert murmur.partitions_of(column, partition_count).tolist() == [partition_of(k, partition_count) for k in keys]


@given(st.lists(st.binary(max_size=70), min_size=1))
def test_hashes(keys: list[bytes]) -> None:
    hashes = murmur._murmur2(pl.Series(keys, dtype=pl.Binary))
    assert hashes.view("i4").tolist() == [murmur2(key) for key in keys]


def test_more_keys_than_are_hashed_at_once() -> None:
    rng = random.Random(1)
    keys = [rng.randbytes(rng.randrange(0, 120)) for _ in range(2 * murmur._ROWS_AT_ONCE + 3)]
    column = pl.Series(keys, dtype=pl.Binary)
    assert murmur.partitions_of(column, 7).tolist() == [partition_of(key, 7) for key in keys]


@pytest.mark.parametrize("part", [slice(2, 5), slice(1, None), slice(4, 4)])
def test_a_slice_of_a_column(part: slice) -> None:
    keys = [b"", b"a", b"long key of several words", b"\x00\x00", b"abcd", b"abcde"]
    column = pl.Series(keys, dtype=pl.Binary)[part]
    assert murmur.partitions_of(column, 6).tolist() == [partition_of(key, 6) for key in keys[part]]
