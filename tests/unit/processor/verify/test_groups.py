"""Small partitions are proven together, and no group is larger than one partition may be."""

from __future__ import annotations

from meterfold_processor.verify.log import Fixed
from meterfold_processor.verify.partitions import groups
from meterfold_sink.fold_state import ProgressRow


def fixed(partition: int, folded: int | None) -> Fixed:
    progress = None if folded is None else ProgressRow(partition, 1_000 + folded, 1_000, folded, 0, 0, 0, 0)
    return Fixed(partition, 1_000, 1_000_000_000, progress, unfolded=False)


def partitions(*folded: int | None) -> list[list[int]]:
    found = groups(fixed(partition, count) for partition, count in enumerate(folded))
    return [[one.partition for one in group] for group in found]


def test_an_installation_with_little_usage_is_one_group() -> None:
    assert partitions(13, None, 0, 40_000) == [[0, 1, 2, 3]]
    assert partitions() == []


def test_a_large_partition_is_alone() -> None:
    assert partitions(150_000, 50_000, 1, 50_000_000, None, 9) == [[0, 1], [2], [3], [4, 5]]


def test_a_group_has_no_more_partitions_than_a_statement_can_name() -> None:
    assert [len(group) for group in partitions(*[1] * 150)] == [64, 64, 22]
