"""Rows of actions on alerts against the topic, as far as the log reaches back and the mirror has come."""

from __future__ import annotations

from typing import Any

from meterfold_processor.verify.actions import ActionLog, ComparedActions, compare_actions


def row(offset: int, by: str = "ann", alert_id: str = "a1", action: int = 1) -> dict[str, Any]:
    return {"alert_id": alert_id, "action": action, "by": by, "earlier": -offset}


def compared(
    first: dict[str, Any] | None, *stored: dict[str, Any], start: int = 0, end: int = 10, mirrored: int = 10
) -> ComparedActions:
    rows = {} if first is None else {(first["alert_id"], first["action"]): first}
    return compare_actions(ActionLog(rows, start, end), stored, mirrored)


def differences(found: ComparedActions) -> list[tuple[str | None, str, str]]:
    assert (found.waiting, found.expired) == (0, 0)
    return [(f.name, f.expected, f.found) for f in found.findings]


def test_the_first_action_is_the_row() -> None:
    assert differences(compared(row(5), row(5))) == []
    assert differences(compared(row(5), row(6, "bob"))) == [
        ("acknowledge of alert a1", "by 'ann', offset 5", "by 'bob', offset 6")
    ]
    assert differences(compared(row(5, action=2), row(5, action=2), row(5, action=2))) == [
        ("resolve of alert a1", "one row", "2 rows")
    ]


def test_a_missing_row_is_a_difference_only_where_the_mirror_has_passed() -> None:
    assert differences(compared(row(5), mirrored=6)) == [("acknowledge of alert a1", "one row", "none")]
    assert compared(row(5), mirrored=5) == ComparedActions([], 1, 0)


def test_a_row_without_a_message_is_invented_or_older_or_newer_than_what_was_read() -> None:
    assert differences(compared(None, row(5))) == [("acknowledge of alert a1", "no row", "one row")]
    assert differences(compared(None, row(10))) == []
    assert compared(None, row(2), start=3) == ComparedActions([], 0, 1)


def test_a_row_that_is_older_than_the_log_stays_valid_beside_a_later_action() -> None:
    assert compared(row(5, "bob"), row(2, "ann"), start=3) == ComparedActions([], 0, 1)
