"""Rows of definitions against what their topics say, as far as the mirror has come."""

from __future__ import annotations

from typing import Any

from meterfold_processor.verify.definitions import Rows, TopicRows, compare_rows

NAME = ("t1",)


def row(version: int, *, deleted: int = 0, value: int = 10) -> dict[str, Any]:
    return {"id": "t1", "threshold": value, "version": version, "deleted": deleted}


def on_topic(expected: dict[str, Any] | None = None, end: int = 6) -> TopicRows:
    return TopicRows({} if expected is None else {NAME: expected}, end)


def found(said: TopicRows, rows: Rows, mirrored: int = 6) -> tuple[list[tuple[str, str]], int]:
    findings, waiting = compare_rows("thresholds", said, rows, mirrored)
    assert all((f.check, f.place, f.name) == ("definitions", "thresholds", "threshold 't1'") for f in findings)
    return [(f.expected, f.found) for f in findings], waiting


def test_a_row_that_is_its_message_says_nothing() -> None:
    assert found(on_topic(row(5)), {NAME: [row(5)]}) == ([], 0)


def test_a_changed_column_is_said_with_both_values() -> None:
    assert found(on_topic(row(5)), {NAME: [row(5, value=11)]}) == ([("threshold 10", "threshold 11")], 0)


def test_a_row_that_is_not_there_is_missing_only_where_the_mirror_has_passed() -> None:
    assert found(on_topic(row(5)), {}, mirrored=5) == ([], 1)
    assert found(on_topic(row(5)), {}, mirrored=6) == ([("one row", "none")], 0)


def test_an_older_row_is_a_difference_only_where_the_mirror_has_passed() -> None:
    assert found(on_topic(row(5)), {NAME: [row(3)]}, mirrored=5) == ([], 1)
    assert found(on_topic(row(5)), {NAME: [row(3)]}) == ([("version 5", "version 3")], 0)


def test_a_row_that_is_newer_than_what_was_read_is_on_its_way() -> None:
    assert found(on_topic(row(5)), {NAME: [row(6, value=12)]}) == ([], 0)
    assert found(on_topic(end=5), {NAME: [row(6)]}) == ([], 0)


def test_a_deletion_says_nothing_but_the_name() -> None:
    assert found(on_topic(row(5, deleted=1)), {NAME: [row(5, deleted=1, value=0)]}) == ([], 0)
    assert found(on_topic(row(5, deleted=1)), {NAME: [row(4)]}) == (
        [("version 5, deleted 1", "version 4, deleted 0")],
        0,
    )
    # The tombstone is gone by compaction, the row stays.
    assert found(on_topic(), {NAME: [row(4, deleted=1)]}) == ([], 0)


def test_rows_of_nothing_and_rows_twice() -> None:
    assert found(on_topic(), {NAME: [row(4)]}) == ([("no row", "one row")], 0)
    assert found(on_topic(row(5)), {NAME: [row(5), row(5)]}) == ([("one row", "2 rows")], 0)
