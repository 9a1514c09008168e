"""Identity tables against plain sets: nothing that was added is missed, and false hits are rare."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.fold import compact
from meterfold_processor.fold.compact import IdentityTable, Piece, Shape

EDGES = [0, 1, 2**32, 2**63, 2**64 - 1]
HASHES = st.sampled_from(EDGES) | st.integers(0, 2**64 - 1) | st.integers(0, 63).map(lambda n: n << 58)
SHAPES = st.sampled_from([Shape(), Shape(1, 1, 0.8, 1), Shape(4, 8, 2.0, 3), Shape(16, 32, 0.5, 0)])


def made(hashes: set[int], step: int = 2**30) -> tuple[IdentityTable, list[Piece]]:
    """The table of these hashes, built `step` pieces at a time."""
    rising = np.array(sorted(hashes), np.uint64)
    bits = compact.bucket_bits(len(rising))
    count, pieces = compact.piece_count(bits), list[Piece]()
    for first in range(0, count, step):
        end = min(count, first + step)
        lowest, highest = compact.hash_range(bits, first, end)
        inside = rising[(rising >= np.uint64(lowest)) & (rising <= np.uint64(highest))]
        pieces += compact.pieces_of(inside, bits, first, end)
    counts, remainders = [piece.counts for piece in pieces], [piece.remainders for piece in pieces]
    return IdentityTable.of(bits, counts, remainders), pieces


@given(SHAPES, st.sets(HASHES, max_size=60), st.lists(HASHES, max_size=60), st.integers(1, 3))
def test_a_set(shape: Shape, hashes: set[int], asked: list[int], step: int) -> None:
    with patch.object(compact, "SHAPE", shape):
        table, pieces = made(hashes, step)
        assert len(table) == len(hashes)
        rising = np.array(sorted([*asked, *hashes]), np.uint64)
        found = table.contains(rising)
        kept = {(h >> (64 - table.bits - shape.remainder_bits)) for h in hashes}
        for value, hit in zip(rising.tolist(), found.tolist(), strict=True):
            assert hit is ((value >> (64 - table.bits - shape.remainder_bits)) in kept)
        numbers = compact.piece_of(rising, table.bits)
        for value, number in zip(rising.tolist(), numbers.tolist(), strict=True):
            lowest, highest = compact.hash_range(table.bits, number, number + 1)
            assert lowest <= value <= highest
            if value in hashes:
                assert value & ((1 << shape.rest_bits) - 1) in pieces[number].rests
        assert all(piece.is_sound(table.bits, piece.checksum(table.bits)) for piece in pieces)


@pytest.mark.parametrize("size", [1_000, 65_536, 300_000, 1_000_000])
def test_memory_and_false_hits(size: int) -> None:
    rng = np.random.default_rng(size)
    hashes = set(rng.integers(0, 2**64, size, dtype=np.uint64).tolist())
    table, pieces = made(hashes)
    assert table.nbytes <= 2.6 * size + 8
    others = np.sort(rng.integers(0, 2**64, 1_000_000, dtype=np.uint64))
    assert table.contains(others).mean() < 0.0003
    assert table.contains(np.array(sorted(hashes), np.uint64)).all()
    if size > 100_000:
        sizes = [len(piece.remainders) for piece in pieces]
        assert 5_000 < np.mean(sizes) < 16_000


def test_every_bit_of_a_piece_is_checked() -> None:
    rng = np.random.default_rng(5)
    _, (piece, *_) = made(set(rng.integers(0, 2**64, 40, dtype=np.uint64).tolist()))
    bits, checksum = compact.bucket_bits(40), piece.checksum(compact.bucket_bits(40))
    for place in range(len(piece.remainders)):
        flipped = piece.remainders.copy()
        flipped[place] ^= np.uint16(1 << place % 16)
        assert not replace(piece, remainders=flipped).is_sound(bits, checksum)
    assert not replace(piece, remainders=piece.remainders[:-1]).is_sound(bits, checksum)
    assert not replace(piece, counts=piece.counts[:-1]).is_sound(bits, checksum)
    assert not replace(piece, counts=piece.counts[::-1].copy()).is_sound(bits, checksum)
    assert not replace(piece, number=1).is_sound(bits, checksum)
    assert not piece.is_sound(bits + 1, checksum)
    with patch.object(compact, "SHAPE", Shape(remainder_bits=15)):
        assert not piece.is_sound(bits, checksum), "tables of another version are not read"


def test_an_empty_table_and_an_empty_batch() -> None:
    table, _ = made(set())
    assert not table.contains(np.array(EDGES, np.uint64)).any()
    table, _ = made(set(EDGES))
    assert len(table.contains(np.empty(0, np.uint64))) == 0
