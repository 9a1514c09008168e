"""Histories of what the fold remembers: tables of weeks that are over, built, stored, lost and damaged.

oN is offset N, r a broker stamp in days after a Friday. A week ends at r = 2.5 (Sunday, midnight UTC), the next at 9.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from meterfold_processor.fold.partition import PartitionFold
from meterfold_processor.fold.recall import _Build
from simulation.fold.histories import tiny_tables
from simulation.fold.script import Hand, event, turns_red, world_of
from simulation.fold.variants import Variant


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_tables():
        yield


def fold_of(hand: Hand) -> PartitionFold:
    assert hand.worker.fold is not None
    return hand.worker.fold


def recall_all(hand: Hand) -> None:
    """Load and build all that there is."""
    for _ in range(200):
        if not fold_of(hand).recall.step():
            return
    raise AssertionError("loading has no end")


def fold_each(hand: Hand, first: int, end: int) -> None:
    for offset in range(first, end):
        hand.land(hand.fold(offset, offset + 1))


def history_of_a_hit(variant: Variant) -> None:
    """Tables that claim what they do not hold: every event after them is new."""
    world = world_of([event(number, r=number / 4) for number in range(40)], variant, batch=1)
    hand = Hand(world)
    for offset in range(40):
        fold_each(hand, offset, offset + 1)
        recall_all(hand)
    assert fold_of(hand)._remembered.tables
    world.finish()


def test_a_hit_is_only_a_candidate() -> None:
    history_of_a_hit(Variant())
    turns_red(history_of_a_hit, "41_trusts_a_hit")


def history_of_a_retry(variant: Variant) -> None:
    """What the table of an earlier week holds comes again."""
    world = world_of([event(0, "a", r=0), event(1, r=9), event(2, "a", r=9.125)], variant)
    hand = Hand(world)
    fold_each(hand, 0, 2)
    recall_all(hand)
    assert fold_of(hand)._remembered.tables
    fold_each(hand, 2, 3)
    world.finish()
    assert set(world.store.now.duplicates) == {2}


def test_a_hit_is_looked_up_in_the_week_of_its_table() -> None:
    history_of_a_retry(Variant())
    turns_red(history_of_a_retry, "41_asks_the_wrong_week", "41_empty_tables")


def history_in_flight(variant: Variant) -> None:
    """The days are over, and the records of o0 are still on their way: a table would be built without it."""
    world = world_of([event(0, "a", r=0), event(1, r=3), event(2, "a", r=4)], variant)
    hand = Hand(world)
    first, second = hand.fold(0, 1), hand.fold(1, 2)
    recall_all(hand)
    hand.land(first)
    hand.land(second)
    recall_all(hand)
    fold_each(hand, 2, 3)
    world.finish()
    assert set(world.store.now.duplicates) == {2}


def test_a_table_is_built_of_what_is_acknowledged() -> None:
    history_in_flight(Variant())
    turns_red(history_in_flight, "41_builds_before_the_flush")


def history_while_building(variant: Variant) -> None:
    """The retry comes between two steps of building the table that replaces the exact identities; at each of them."""
    for moment in range(6):
        world = world_of([event(0, "a", r=0), event(1, r=9), event(2, "a", r=9.125)], variant)
        hand = Hand(world)
        fold_each(hand, 0, 2)
        for _ in range(moment):
            fold_of(hand).recall.step()
        fold_each(hand, 2, 3)
        recall_all(hand)
        world.finish()
        assert set(world.store.now.duplicates) == {2}, moment


def test_identities_stay_exact_until_their_table_is_there() -> None:
    history_while_building(Variant())
    turns_red(history_while_building, "41_replaces_at_once")


def history_at_an_assignment(variant: Variant) -> None:
    """The retry comes between two steps of loading; at each of them."""
    for moment in range(12):
        events = [event(0, "a", r=0), event(1, "b", r=9), event(2, "a", r=9.125), event(3, "b", r=9.25)]
        world = world_of(events, variant)
        before = Hand(world)
        fold_each(before, 0, 2)
        recall_all(before)
        after = Hand(world)
        for _ in range(moment):
            fold_of(after).recall.step()
        fold_each(after, 2, 4)
        recall_all(after)
        assert not fold_of(after).recall.is_loading
        world.finish()
        assert set(world.store.now.duplicates) == {2, 3}, moment


def test_what_is_not_loaded_is_looked_up() -> None:
    history_at_an_assignment(Variant())
    turns_red(history_at_an_assignment, "41_serves_with_what_is_loaded")


def history_of_a_late_stamp(variant: Variant) -> None:
    """The table of the first week is stored; o2 is counted in that week later, since its stamp steps back. The next
    owner of the partition finds the table, and o2 comes again."""
    world = world_of([event(0, r=0), event(1, r=4), event(2, "late", r=2), event(3, "late", r=5)], variant)
    before = Hand(world)
    fold_each(before, 0, 2)
    recall_all(before)
    assert world.store.now.pieces
    fold_each(before, 2, 3)
    after = Hand(world)
    recall_all(after)
    assert fold_of(after)._remembered.tables
    fold_each(after, 3, 4)
    world.finish()
    assert set(world.store.now.duplicates) == {3}


def test_what_was_counted_in_a_tables_time_after_it_was_built_is_loaded_too() -> None:
    history_of_a_late_stamp(Variant())
    turns_red(history_of_a_late_stamp, "41_loads_nothing_late")


def history_of_damage(variant: Variant) -> None:
    """Each piece of the stored table in turn is lost, or a bit of it flips."""
    events = [*(event(number, f"id{number}", r=number / 16) for number in range(6)), event(6, r=9)]
    again = [event(7 + number, f"id{number}", r=9.125) for number in range(6)]
    for piece in range(6):
        for lost in (True, False):
            world = world_of([*events, *again], variant)
            before = Hand(world)
            before.land(before.fold(0, 7))
            recall_all(before)
            keys = sorted(world.store.now.pieces, key=lambda key: (key[0].until, key[1]))
            if piece >= len(keys):
                return
            if lost:
                del world.store.now.pieces[keys[piece]]
            else:
                stored = world.store.now.pieces[keys[piece]]
                flipped = replace(stored.piece, remainders=stored.piece.remainders ^ np.uint16(1))
                world.store.now.pieces[keys[piece]] = replace(stored, piece=flipped)
            after = Hand(world)
            recall_all(after)
            after.land(after.fold(7, 13))
            world.finish()
            assert set(world.store.now.duplicates) == set(range(7, 13))


def test_a_damaged_table_is_built_again() -> None:
    history_of_damage(Variant())
    turns_red(history_of_damage, "41_trusts_damaged_tables")


def test_a_table_of_another_time_is_not_used() -> None:
    """ClickHouse was restored, but for the tables: what they say they hold was not folded yet."""
    world = world_of([event(0, "a", r=0), event(1, r=4)], Variant())
    before = Hand(world)
    early = world.store.now.copy()
    fold_each(before, 0, 2)
    recall_all(before)
    pieces = world.store.now.pieces
    assert pieces
    world.store.now = early
    world.store.now.pieces = pieces
    after = Hand(world)
    fold_each(after, 0, 1)
    again = Hand(world)
    fold_of(again).recall.step()
    assert all(isinstance(task, _Build) or "Exact" in type(task).__name__ for task in fold_of(again).recall._tasks)
    recall_all(again)
    fold_each(again, 1, 2)
    world.finish()
