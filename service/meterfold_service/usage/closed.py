"""Closed days and months in place of records that have expired. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from meterfold_schemas.periods import Period, period_end
from meterfold_service.usage.pieces import RECORDS
from meterfold_sink.closed_usage import CLOSED_KINDS
from meterfold_sink.usage_states import Piece

__all__ = ["with_closings"]


def with_closings(pieces: Sequence[Piece], complete: Mapping[Period, Sequence[int]]) -> list[Piece]:
    """The same spans, where records are replaced by closed months, and between them by closed days, as far as possible.
    `complete`: the starts of periods that can replace them, in order."""
    kinds = sorted(CLOSED_KINDS.items(), key=lambda entry: entry[1] != Period.MONTHLY)
    found = list(pieces)
    for kind, period in kinds:
        starts = complete.get(period, ())
        found = [part for piece in found for part in _split(piece, kind, period, starts)]
    return found


def _split(piece: Piece, kind: str, period: Period, starts: Sequence[int]) -> Iterator[Piece]:
    if piece.kind != RECORDS:
        yield piece
        return
    at = piece.start
    for start in starts[bisect_left(starts, at) :]:
        end = period_end(period, start)
        assert end is not None
        if end > piece.end:
            break
        if at < start:
            yield piece._replace(start=at, end=start)
        yield Piece(piece.number, kind, start, end)
        at = end
    if at < piece.end:
        yield piece._replace(start=at)
