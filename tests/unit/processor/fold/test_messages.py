"""Messages as columns, and the broker's clock that they must carry."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from meterfold_processor.fold.messages import columns
from meterfold_schemas.errors import Fatal


@dataclass
class Fake:
    at: tuple[int, int]
    stamp: tuple[int, int] = (2, 1_700_000_000_123)
    raw_key: bytes | None = b"k"
    raw_value: bytes | None = b"v"

    def partition(self) -> int:
        return self.at[0]

    def offset(self) -> int:
        return self.at[1]

    def timestamp(self) -> tuple[int, int]:
        return self.stamp

    def key(self) -> bytes | None:
        return self.raw_key

    def value(self) -> bytes | None:
        return self.raw_value


def test_columns() -> None:
    consumed = columns([Fake((0, 5)), Fake((2, 2**40), raw_key=None, raw_value=None), Fake((0, 7), raw_value=b"")])
    assert len(consumed) == 3
    assert consumed.partition.tolist() == [0, 2, 0]
    assert consumed.offset.tolist() == [5, 2**40, 7]
    assert consumed.stamp.tolist() == [1_700_000_000_123_000] * 3
    assert consumed.keys == [b"k", None, b"k"]
    assert consumed.values == [b"v", b"", b""]


def test_no_messages() -> None:
    assert len(columns([])) == 0


@pytest.mark.parametrize("kind", [0, 1])
def test_a_stamp_that_the_broker_did_not_set_stops_the_worker(kind: int) -> None:
    with pytest.raises(Fatal, match=r"partition 3, offset 9 .*LogAppendTime"):
        columns([Fake((3, 8)), Fake((3, 9), stamp=(kind, 5))])
