"""Repeated ids of a file, found by hashes, in memory or in temporary files: the same as a dictionary finds."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold import Delivery
from meterfold_cli.importing.deliveries import PAGE, Deliveries
from meterfold_cli.importing.identities import Identities, Repeats


def found(rows: list[tuple[int, int]], rows_in_memory: int) -> Repeats:
    with Identities(rows_in_memory) as identities:
        for line, (identity, contents) in enumerate(rows, 2):
            identities.add(str(identity).encode(), str(contents).encode(), line)
        return identities.repeats()


@given(
    rows=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), max_size=60),
    rows_in_memory=st.sampled_from([1, 2, 7, 1000]),
)
def test_repeats_and_conflicts_are_those_of_a_dictionary(rows: list[tuple[int, int]], rows_in_memory: int) -> None:
    by_identity: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for line, (identity, contents) in enumerate(rows, 2):
        by_identity[identity].append((line, contents))
    mixed = {identity for identity, group in by_identity.items() if len({contents for _, contents in group}) > 1}
    seen = found(rows, rows_in_memory)
    assert seen.exact == sum(len(group) - 1 for identity, group in by_identity.items() if identity not in mixed)
    lines = [line for identity in mixed for line, _ in by_identity[identity]]
    assert seen.conflicts[:, 0].tolist() == sorted(lines)
    said = dict(enumerate(rows, 2))
    for line, other in seen.conflicts.tolist():
        assert said[line][0] == said[other][0]
        assert said[line][1] != said[other][1]


def test_three_rows_of_one_id_name_each_other() -> None:
    seen = found([(1, 5), (1, 7), (2, 1), (1, 9)], 1000)
    assert seen.exact == 0
    assert seen.conflicts.tolist() == [[2, 3], [3, 2], [5, 2]]


def test_a_file_without_rows_has_no_repeats() -> None:
    seen = found([], 1000)
    assert (seen.exact, len(seen.conflicts)) == (0, 0)


def test_parts_of_an_identity_do_not_run_into_each_other() -> None:
    with Identities() as identities:
        identities.add(b'["","m","u","a"]b', b"1", 2)
        identities.add(b'["","m","u","ab"]', b"2", 3)
        assert len(identities.repeats().conflicts) == 0


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3 * PAGE)), max_size=50))
def test_positions_of_deliveries_are_kept_exactly(positions: set[tuple[int, int]]) -> None:
    deliveries = Deliveries()
    for partition, offset in positions:
        deliveries.report(Delivery("e", partition, offset))
    kept = {(p, first + int(i)) for p, first, ours in deliveries.pages() for i in ours.nonzero()[0]}
    assert kept == positions
    assert deliveries.last() == {p: max(o for q, o in positions if q == p) for p, _ in positions}


@pytest.mark.parametrize("offset", [None, -1, -1001])
def test_a_delivery_without_an_offset_is_counted_and_a_failed_one_is_not(offset: int | None) -> None:
    deliveries = Deliveries()
    deliveries.report(Delivery("e", 0, offset))
    deliveries.report(Delivery("e", 0, 7, "it failed"))
    assert deliveries.unlocated == 1
    assert deliveries.last() == {}
