"""Any span of time as stored windows: whole UTC months, days and hours, and records for parts of an hour. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from meterfold_schemas.periods import Period, period_end, period_start

__all__ = ["RECORDS", "Piece", "pieces"]

RECORDS: Final = "records"
_COARSE_TO_FINE: Final = (Period.MONTHLY, Period.DAILY, Period.HOURLY)


class Piece(NamedTuple):
    """[start, end) in UTC microseconds: every stored window of this kind that begins in it, or (RECORDS) every record
    with a timestamp in it."""

    kind: str
    start: int
    end: int


def pieces(start: int, end: int, kinds: Sequence[Period] = _COARSE_TO_FINE) -> list[Piece]:
    """Pieces that cover [start, end) exactly, in order, with as few windows as possible."""
    if start >= end:
        return []
    if not kinds:
        return [Piece(RECORDS, start, end)]
    kind, finer = kinds[0], kinds[1:]
    first, last = _ceiling(kind, start), period_start(kind, end)
    if first >= last:
        return pieces(start, end, finer)
    return [*pieces(start, first, finer), Piece(kind.value, first, last), *pieces(last, end, finer)]


def _ceiling(kind: Period, instant: int) -> int:
    start = period_start(kind, instant)
    if start == instant:
        return start
    end = period_end(kind, start)
    assert end is not None
    return end
