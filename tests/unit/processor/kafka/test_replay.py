"""What the log has for an older state of the fold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.kafka.replay import FOR_EVER, Replay, replayable_until

NOW = datetime(2026, 11, 29, tzinfo=UTC)
offsets = st.integers(0, 100)


def replay(next_offset: int, start: int, end: int, kept: datetime = NOW) -> Replay:
    return Replay(0, next_offset, start, end, NOW, kept)


@given(offsets, offsets, offsets)
def test_offsets_are_lost_or_missing_or_all_of_them_wait(next_offset: int, start: int, length: int) -> None:
    end = start + length
    found = replay(next_offset, start, end)
    assert min(found.lost, found.missing) == 0
    assert found.lost + found.waiting == (end - next_offset if next_offset <= end else 0)
    assert (found.lost == found.missing == 0) == (start <= next_offset <= end)


def test_the_first_partition_that_expires_decides() -> None:
    later = NOW + timedelta(days=1)
    assert replayable_until([replay(5, 0, 9, later), replay(5, 0, 9)]) == NOW
    assert replayable_until([replay(5, 5, 5, FOR_EVER)]) == FOR_EVER
    assert replayable_until([]) == FOR_EVER


def test_a_backup_that_lost_something_is_over() -> None:
    for broken in (replay(4, 5, 9), replay(10, 5, 9)):
        assert replayable_until([replay(5, 0, 9), broken]) < NOW
