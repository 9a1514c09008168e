"""False hits are dismissed by the last bits of the hashes; whatever cannot be compared stays a candidate."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from meterfold_processor.fold import compact, dismissal
from meterfold_processor.fold.compact import IdentityTable, UInt64s, Version
from meterfold_processor.fold.dismissal import dismiss
from meterfold_processor.fold.remembered import Candidates
from meterfold_processor.fold.store import Rests

RNG = np.random.default_rng(3)
HELD = np.sort(RNG.integers(0, 2**64, 200_000, dtype=np.uint64))
VERSION = Version(0, 1, 0, compact.bucket_bits(len(HELD)))
PIECES = compact.pieces_of(HELD, VERSION.bits, 0, compact.piece_count(VERSION.bits))
TABLE = IdentityTable.of(VERSION.bits, [piece.counts for piece in PIECES], [piece.remainders for piece in PIECES])


def false_hits() -> UInt64s:
    """Hashes that the table claims and does not hold."""
    others = np.sort(np.random.default_rng(4).integers(0, 2**64, 400_000, dtype=np.uint64))
    return np.setdiff1d(others[TABLE.contains(others)], HELD)


class Stored:
    """The rests as they were stored, each changed by `fate`; None loses one."""

    def __init__(self, fate: Callable[[Rests], Rests | None] = lambda rests: rests) -> None:
        self.fate = fate
        self.asked: list[int] = []

    def load_rests(self, wanted: list[tuple[Version, int]]) -> list[Rests]:
        self.asked += [number for _, number in wanted]
        stored = [
            Rests(version, number, PIECES[number].rests, zlib.crc32(PIECES[number].rests.tobytes()))
            for version, number in wanted
        ]
        return [kept for one in stored if (kept := self.fate(one)) is not None]


def dismissed(hashes: UInt64s, history: Any, version: Version | None = VERSION) -> UInt64s:
    """Of hashes that the table claims, those that are left."""
    assert TABLE.contains(hashes).all()
    left = dismiss([Candidates((0, 1), np.ones(len(hashes), np.bool_), version)], hashes, history)
    return hashes[left[0].rows] if left else hashes[:0]


def test_false_hits_go_and_real_ones_stay() -> None:
    false, real = false_hits(), HELD[::1000]
    assert len(false) > 10
    both = np.sort(np.concatenate((false, real)))
    history = Stored()
    assert dismissed(both, history).tolist() == real.tolist()
    assert len(history.asked) == len(set(history.asked)), "each piece is read once"
    assert len(dismissed(false, Stored())) == 0


@pytest.mark.parametrize(
    "fate",
    [
        lambda one: None,
        lambda one: Rests(one.version, one.number, one.rests ^ np.uint32(1), one.checksum),
        lambda one: Rests(one.version, one.number, one.rests[:-1], one.checksum),
    ],
    ids=["lost", "flipped", "cut"],
)
def test_lost_and_damaged_rests_dismiss_nothing(fate: Callable[[Rests], Rests | None]) -> None:
    both = np.sort(np.concatenate((false_hits(), HELD[::1000])))
    assert dismissed(both, Stored(fate)).tolist() == both.tolist()


def test_many_hits_and_exact_ones_are_looked_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    false, history = false_hits(), Stored()
    assert len(dismissed(false, history, version=None)) == len(false)
    monkeypatch.setattr(dismissal, "MOST", len(false) - 1)
    assert len(dismissed(false, history)) == len(false)
    assert history.asked == []
