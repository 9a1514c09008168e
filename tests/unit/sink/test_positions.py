"""Offsets of many partitions in as few statements as their size allows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meterfold_sink.positions import Span, slices


@given(st.lists(st.integers(-3, 30), max_size=100), st.integers(1, 25))
def test_slices_hold_the_same_offsets_and_no_more_than_their_size(lengths: list[int], size: int) -> None:
    spans = [Span(partition, 7, 7 + length) for partition, length in enumerate(lengths)]
    found = list(slices(spans, size))
    covered = [(span.partition, offset) for one in found for span in one for offset in range(span.first, span.until)]
    assert covered == [(span.partition, offset) for span in spans for offset in range(span.first, span.until)]
    for one in found:
        assert 0 < sum(map(len, one)) <= size
        assert len({span.partition for span in one}) == len(one) <= 64


def test_small_spans_share_a_slice_and_a_large_one_is_cut() -> None:
    spans = [Span(0, 0, 3), Span(1, 5, 5), Span(2, 10, 14), Span(3, 0, 12)]
    assert list(slices(spans, 8)) == [
        [Span(0, 0, 3), Span(2, 10, 14), Span(3, 0, 1)],
        [Span(3, 1, 9)],
        [Span(3, 9, 12)],
    ]
