"""Statements about usage over many spans of time."""

from __future__ import annotations

import time

from meterfold_sink.rules import FoldRules
from meterfold_sink.usage_groups import Grouping
from meterfold_sink.usage_states import Of, Piece, states

RULES = FoldRules(cluster_id="c", topic_id="t", partition_count=4)
HOUR = 3_600_000_000


def cost(hours: int) -> float:
    """CPU seconds of one statement."""
    pieces = [Piece(number, "hourly", number * HOUR, (number + 1) * HOUR) for number in range(hours)]
    of, grouping = Of("calls", "acme", None), Grouping()

    def once() -> float:
        begun = time.process_time()
        assert f",{hours - 1}]" in states(RULES, of, pieces, grouping)
        return time.process_time() - begun

    return min(once() for _ in range(3))


def test_ten_times_the_hours_take_ten_times_as_long_and_not_a_hundred() -> None:
    assert cost(10_000) < 30 * cost(1_000)
