"""A partition's messages follow on what is folded, or they are read again: what was skipped would never be counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from meterfold_processor.fold.assignment import Assignment


class FakeConsumer:
    def __init__(self) -> None:
        self.seeks: list[tuple[int, int]] = []

    def seek(self, place: Any) -> None:
        self.seeks.append((place.partition, place.offset))

    def resume(self, places: list[Any]) -> None: ...


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
def assignment(consumer: FakeConsumer) -> Assignment:
    made = Assignment(
        cast(Any, consumer),
        "usage.recorded",
        open_partition=lambda partition: pytest.fail("nothing is opened here"),
        check_source=lambda: None,
        before_revoke=lambda: None,
    )
    made.active[2] = cast(Any, SimpleNamespace(progress=SimpleNamespace(next_offset=103)))
    return made


def test_messages_behind_a_hole_are_read_again_from_the_progress(
    assignment: Assignment, consumer: FakeConsumer
) -> None:
    assert assignment.needs_reseek(2, 123)
    assert consumer.seeks == [(2, 103)]


def test_a_hole_that_is_there_at_the_second_look_is_believed(assignment: Assignment, consumer: FakeConsumer) -> None:
    assert assignment.needs_reseek(2, 104)
    assert not assignment.needs_reseek(2, 104)
    assert len(consumer.seeks) == 1


def test_a_hole_elsewhere_is_not_believed_because_an_earlier_one_was(
    assignment: Assignment, consumer: FakeConsumer
) -> None:
    assert assignment.needs_reseek(2, 104)
    cast(Any, assignment.active[2]).progress.next_offset = 200
    assert assignment.needs_reseek(2, 230)
    assert consumer.seeks == [(2, 103), (2, 200)]


@pytest.mark.parametrize("first", [90, 103])
def test_messages_that_follow_on_are_taken(assignment: Assignment, consumer: FakeConsumer, first: int) -> None:
    assert not assignment.needs_reseek(2, first)
    assert consumer.seeks == []
