"""Counters of a progress row against rows, gaps and what has expired."""

from __future__ import annotations

import pytest

from meterfold_processor.verify.counters import Accounts, balance, merged, split
from meterfold_processor.verify.log import Gap, runs
from meterfold_sink.fold_state import ProgressRow
from meterfold_sink.positions import Positions


def accounts(
    counted: int = 10,
    duplicates: int = 2,
    rejected: int = 1,
    *,
    stored: tuple[int, int, int] = (10, 2, 1),
    missing: int = 0,
    expired: int = 0,
    gone: tuple[Gap, ...] = (),
    kept_from: int | None = 0,
) -> Accounts:
    progress = ProgressRow(3, 20, 0, counted, duplicates, rejected, 1, 1)
    return Accounts(progress, Positions(*stored, distinct=sum(stored)), missing, expired, gone, kept_from)


def test_equal_counters_prove_that_offsets_which_are_gone_held_no_message() -> None:
    assert balance(accounts(gone=(Gap(0, 6),))) == ([], [])


@pytest.mark.parametrize(
    ("stored", "place"),
    [((9, 2, 1), "usage_records"), ((10, 1, 1), "usage_duplicates"), ((10, 2, 0), "usage_rejected")],
)
def test_a_row_that_the_log_still_has_is_one_finding_with_its_counter(stored: tuple[int, int, int], place: str) -> None:
    (finding,), unproven = balance(accounts(stored=stored, missing=1))
    assert (finding.place, finding.partition, unproven) == (place, 3, [])
    assert int(finding.expected) == int(finding.found) + 1


def test_a_row_too_many_is_a_finding() -> None:
    (finding,), _ = balance(accounts(stored=(11, 2, 1)))
    assert (finding.place, finding.expected, finding.found) == ("usage_records", "10", "11")


def test_a_record_that_became_a_duplicate_is_two_findings_although_the_sum_is_right() -> None:
    findings, unproven = balance(accounts(stored=(9, 3, 1)))
    assert [(f.place, f.expected, f.found) for f in findings] == [
        ("usage_records", "10", "9"),
        ("usage_duplicates", "2", "3"),
    ]
    assert unproven == []


def test_rows_that_have_expired_are_named_and_are_no_difference() -> None:
    findings, (unproven,) = balance(accounts(stored=(6, 1, 1), gone=(Gap(0, 6),), kept_from=7))
    assert findings == []
    assert (unproven.partition, unproven.offset, unproven.last_offset, unproven.passing) == (3, 0, 6, False)
    assert "5 events" in unproven.why


def test_everything_has_expired() -> None:
    findings, (unproven,) = balance(accounts(stored=(0, 0, 0), gone=(Gap(0, 19),), kept_from=None))
    assert findings == []
    assert "13 events" in unproven.why


def test_more_is_missing_than_can_have_expired() -> None:
    """Seven offsets may have expired, nine rows are missing: the other ones are too young for it."""
    findings, unproven = balance(accounts(stored=(1, 2, 1), gone=(Gap(0, 6), Gap(10, 13)), kept_from=7))
    assert unproven == []
    lost = findings[-1]
    assert (lost.offset, lost.last_offset, lost.expected) == (10, 13, "9 more")


def test_a_young_row_that_the_log_does_not_hold_any_more_is_missing() -> None:
    findings, unproven = balance(accounts(stored=(9, 2, 1), gone=(Gap(8, 8), Gap(12, 12)), kept_from=0))
    assert unproven == []
    assert [f.place for f in findings] == ["usage_records", "usage_records, usage_duplicates, usage_rejected"]
    assert (findings[1].offset, findings[1].last_offset) == (8, 12)
    assert findings[1].found == "no row at offsets 8, 12"


def test_counters_that_no_offset_can_explain() -> None:
    findings, _ = balance(accounts(stored=(9, 2, 1)))
    assert [f.found for f in findings] == ["9", "no offset without a row"]


def test_a_message_older_than_the_retention_is_no_difference() -> None:
    findings, (unproven,) = balance(accounts(stored=(9, 2, 1), expired=1))
    assert findings == []
    assert "1 messages" in unproven.why


def test_gaps_that_slices_cut_are_one() -> None:
    assert merged([Gap(0, 1), Gap(2, 2), Gap(4, 5), Gap(5, 6)]) == [Gap(0, 2), Gap(4, 6)]
    assert merged([]) == []


def test_a_gap_across_the_start_of_the_log_is_cut() -> None:
    assert split([Gap(0, 1), Gap(3, 6), Gap(9, 9)], 5) == ([Gap(0, 1), Gap(3, 4)], [Gap(5, 6), Gap(9, 9)])
    assert split([Gap(5, 5)], 5) == ([], [Gap(5, 5)])


def test_near_gaps_are_read_in_one_go() -> None:
    assert runs([Gap(0, 0), Gap(20_000, 20_001), Gap(40_002, 40_002)]) == [
        [Gap(0, 0), Gap(20_000, 20_001)],
        [Gap(40_002, 40_002)],
    ]
