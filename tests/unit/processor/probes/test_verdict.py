"""When a worker counts as alive and as ready: every condition, turning bad and good again, on a clock of the test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.kafka.membership import MembershipState
from meterfold_processor.probes.progress import PartitionPosition, Standstill
from meterfold_processor.probes.verdict import Observation, Verdict, judge

STALL = 120.0
MEMBER = MembershipState(at=0.0, member=True, connected=True, state="coordinator up, member steady", ends={})


class Story:
    """A worker over time. The membership is always fresh unless it is given."""

    def __init__(self) -> None:
        self.standstill = Standstill()
        self.now = 1_000.0

    def after(
        self,
        seconds: float,
        places: Mapping[int, PartitionPosition] | None = None,
        errors: Mapping[str, str] | None = None,
        membership: MembershipState | None = MEMBER,
    ) -> Verdict:
        self.now += seconds
        places = {} if places is None else places
        if membership is MEMBER:
            membership = replace(MEMBER, at=self.now)
        self.standstill.see(places, self.now)
        return judge(Observation(places, errors or {}, membership), self.standstill, self.now, STALL)


def test_a_worker_that_moves_is_well_however_large_the_lag() -> None:
    story = Story()
    for position in range(10):
        verdict = story.after(100, {0: PartitionPosition(position, 1_000_000)})
        assert (verdict.alive, verdict.ready) == (True, True)


def test_a_worker_without_lag_is_well_for_ever() -> None:
    story = Story()
    for _ in range(10):
        assert story.after(1_000, {0: PartitionPosition(7, 7)}).ready


def test_lag_that_stands_still_is_named_and_forgiven_as_soon_as_it_moves() -> None:
    story = Story()
    assert story.after(0, {0: PartitionPosition(5, 5), 3: PartitionPosition(40, 40)}).ready
    assert story.after(500, {0: PartitionPosition(5, 5), 3: PartitionPosition(40, 90)}).alive, (
        "it has waited for no more than a moment"
    )
    assert story.after(119, {0: PartitionPosition(5, 5), 3: PartitionPosition(40, 91)}).alive
    bad = story.after(1, {0: PartitionPosition(5, 5), 3: PartitionPosition(40, 95)})
    assert bad.against_alive == ("partition 3 has made no progress for 120 s: next offset 40, log end 95",)
    assert bad.against_ready == bad.against_alive
    good = story.after(1, {0: PartitionPosition(5, 5), 3: PartitionPosition(41, 95)})
    assert (good.alive, good.ready) == (True, True)
    assert not story.after(STALL, {0: PartitionPosition(5, 5), 3: PartitionPosition(41, 95)}).alive
    assert story.after(1, {0: PartitionPosition(5, 5), 3: PartitionPosition(95, 95)}).ready


def test_a_partition_that_is_loaded_for_too_long_is_stuck() -> None:
    story = Story()
    loading = story.after(0, {1: PartitionPosition(None, None)})
    assert (loading.alive, loading.against_ready) == (True, ("partition 1 is being loaded",))
    stuck = story.after(STALL, {1: PartitionPosition(None, None)})
    assert stuck.against_alive == ("partition 1 has made no progress for 120 s: not loaded yet, log end not known",)
    assert story.after(1, {1: PartitionPosition(0, None)}).ready


def test_loading_again_and_again_is_no_movement() -> None:
    story = Story()
    for _ in range(12):
        story.after(5, {0: PartitionPosition(40, 90)})
        last = story.after(5, {0: PartitionPosition(None, 90)})
    assert last.alive
    assert not story.after(5, {0: PartitionPosition(40, 90)}).alive
    assert story.after(5, {0: PartitionPosition(41, 90)}).alive


def test_a_partition_that_was_given_back_begins_anew() -> None:
    story = Story()
    story.after(0, {0: PartitionPosition(40, 90)})
    assert not story.after(STALL, {0: PartitionPosition(40, 90)}).alive
    assert story.after(1, {}).ready
    assert story.after(1, {0: PartitionPosition(40, 90)}).ready


def test_a_held_partition_is_named_and_does_not_end_the_worker() -> None:
    story = Story()
    held = PartitionPosition(12, 90, "unknown schema 0102030405060708")
    for _ in range(3):
        verdict = story.after(STALL, {0: PartitionPosition(5, 5), 1: held})
        assert verdict.alive
        assert verdict.against_ready == (
            "partition 1 is held, unknown schema 0102030405060708: next offset 12, log end 90",
        )
    assert story.after(1, {0: PartitionPosition(5, 5), 1: PartitionPosition(13, 90)}).ready


def test_what_is_retried_makes_it_not_ready_until_it_went_well() -> None:
    story = Story()
    bad = story.after(1, {0: PartitionPosition(5, 5)}, {"flush": "ClickHouse could not be reached"})
    assert bad.alive
    assert bad.against_ready == ("flush is failing and being retried: ClickHouse could not be reached",)
    assert story.after(1, {0: PartitionPosition(5, 5)}).ready


def test_a_worker_is_ready_once_it_has_joined_and_needs_no_partition() -> None:
    story = Story()
    starting = story.after(1, membership=None)
    assert starting.alive
    assert starting.against_ready == ("the worker is starting and has not joined its group yet",)
    assert story.after(1).ready


def test_a_worker_that_lost_its_membership_is_not_ready_until_it_has_it_again() -> None:
    story = Story()
    assert story.after(1, {0: PartitionPosition(5, 5)}).ready
    lost = MembershipState(
        story.now + 1, member=False, connected=True, state="coordinator up, member wait-join", ends={}
    )
    bad = story.after(1, {}, membership=lost)
    assert bad.alive
    assert bad.against_ready == ("the worker is not in its group (coordinator up, member wait-join)",)
    assert story.after(1, {0: PartitionPosition(5, 5)}).ready


def test_kafka_that_cannot_be_reached_is_said_once() -> None:
    story = Story()
    away = MembershipState(story.now + 1, member=False, connected=False, state="coordinator query-coord", ends={})
    assert story.after(1, {0: PartitionPosition(5, 5)}, membership=away).against_ready == (
        "no Kafka broker can be reached",
    )
    assert story.after(1, {0: PartitionPosition(5, 5)}).ready


def test_a_worker_that_polls_no_more_is_not_alive_though_no_lag_is_known() -> None:
    story = Story()
    last = replace(MEMBER, at=story.now)
    assert story.after(STALL - 1, {0: PartitionPosition(5, 5)}, membership=last).ready
    bad = story.after(1, {0: PartitionPosition(5, 5)}, membership=last)
    assert bad.against_alive == ("the worker has not polled Kafka for 120 s",)
    assert story.after(1, {0: PartitionPosition(5, 5)}).ready


def test_a_clock_that_is_read_a_little_later_elsewhere_does_no_harm() -> None:
    standstill = Standstill()
    standstill.see({0: PartitionPosition(1, 9)}, 10.0)
    assert standstill.seconds(0, 9.0) == 0.0


steps = st.lists(
    st.tuples(
        st.floats(0, 200),
        st.dictionaries(
            st.integers(0, 2),
            st.builds(PartitionPosition, st.none() | st.integers(0, 6), st.none() | st.integers(0, 6)),
            max_size=3,
        ),
    ),
    max_size=40,
)


@given(steps, st.sampled_from([1.0, STALL, 1_000.0]))
def test_alive_means_no_partition_has_waited_too_long_on_the_same_ground(
    history: list[tuple[float, dict[int, PartitionPosition]]], stall: float
) -> None:
    """Against a plain reading of the whole history: since when has the partition been assigned without a break, and
    when was the last moment in that time at which it had no lag, had none just before, or was further than ever."""
    standstill, now = Standstill(), 0.0
    past: list[tuple[float, dict[int, PartitionPosition]]] = []
    for pause, places in history:
        now += pause
        past.append((now, places))
        standstill.see(places, now)
        verdict = judge(Observation(places, {}, replace(MEMBER, at=now)), standstill, now, stall)
        stuck = {number for number in places if places[number].lag != 0 and now - _moved(number, past) >= stall}
        assert {int(text.split()[1]) for text in verdict.against_alive} == stuck
        loading = any(place.position is None for place in places.values())
        assert verdict.ready == (not stuck and not loading)


def _moved(partition: int, past: list[tuple[float, dict[int, PartitionPosition]]]) -> float:
    tenure: list[tuple[float, PartitionPosition]] = []
    for now, places in past:
        if partition in places:
            tenure.append((now, places[partition]))
        else:
            tenure = []
    last = tenure[0][0]
    for index, (now, place) in enumerate(tenure):
        earlier = [before.position for _, before in tenure[:index] if before.position is not None]
        idle = place.lag == 0 or (index > 0 and tenure[index - 1][1].lag == 0)
        if idle or (place.position is not None and place.position > max(earlier, default=-1)):
            last = now
    return last


@pytest.mark.parametrize(
    ("place", "lag"),
    [
        (PartitionPosition(3, 10), 7),
        (PartitionPosition(10, 3), 0),
        (PartitionPosition(None, 3), None),
        (PartitionPosition(3, None), None),
    ],
)
def test_lag(place: PartitionPosition, lag: int | None) -> None:
    assert place.lag == lag
