"""Which windows lie in a range of time, what is no range, and the organizations of keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import polars as pl
import pytest

from meterfold_cli import exits
from meterfold_cli.commands.verify import time_range
from meterfold_processor.verify import OrgCounts, TimeRange, WindowName
from meterfold_processor.verify.orgs import OrgTally, org_of, summed
from meterfold_schemas.errors import InvalidUsage

MARCH = TimeRange(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


def window(period_type: str, start: datetime) -> WindowName:
    return WindowName("acme", "calls", "user", "u1", period_type, start)


@pytest.mark.parametrize(
    ("period_type", "start", "held"),
    [
        ("monthly", datetime(2026, 3, 1, tzinfo=UTC), True),
        ("daily", datetime(2026, 3, 31, tzinfo=UTC), True),
        ("hourly", datetime(2026, 3, 31, 23, tzinfo=UTC), True),
        ("hourly", datetime(2026, 4, 1, tzinfo=UTC), False),
        ("daily", datetime(2026, 2, 28, tzinfo=UTC), False),
        ("lifetime", datetime(1970, 1, 1, tzinfo=UTC), False),
    ],
)
def test_windows_lie_in_a_range_as_a_whole(period_type: str, start: datetime, held: bool) -> None:
    assert MARCH.holds(window(period_type, start)) is held


def test_a_window_that_the_range_cuts_is_not_in_it() -> None:
    cut = TimeRange(MARCH.start + timedelta(minutes=1), MARCH.end - timedelta(minutes=1))
    for period_type, start in (
        ("monthly", MARCH.start),
        ("daily", MARCH.start),
        ("daily", datetime(2026, 3, 31, tzinfo=UTC)),
        ("hourly", MARCH.start),
    ):
        assert not cut.holds(window(period_type, start))
    assert cut.holds(window("hourly", MARCH.start + timedelta(hours=1)))


def test_what_is_no_range() -> None:
    with pytest.raises(InvalidUsage, match="after it begins"):
        TimeRange(MARCH.end, MARCH.start)
    with pytest.raises(InvalidUsage, match="UTC offset"):
        TimeRange(MARCH.start.replace(tzinfo=None), MARCH.end)


def test_times_on_the_command_line() -> None:
    assert time_range(None, None) is None
    assert time_range("2026-03-01", "2026-04-01") == MARCH
    east = time_range("2026-03-01T02:00:00+02:00", "2026-04-01T00:00:00Z")
    assert east == TimeRange(datetime(2026, 3, 1, 2, tzinfo=timezone(timedelta(hours=2))), MARCH.end)
    assert east is not None
    assert east.bounds == MARCH.bounds
    for wrong in (("2026-03-01", None), ("march", "2026-04-01"), ("2026-03-01T00:00:00", "2026-04-01")):
        with pytest.raises(exits.WrongInput):
            time_range(*wrong)


def test_bounds_beyond_what_clickhouse_stores_do_not_wrap_around() -> None:
    start, end = TimeRange(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)).bounds
    assert start == 0
    assert end < 2**63
    assert datetime.fromtimestamp(end / 1e6, UTC).year < 2299


@pytest.mark.parametrize(
    ("key", "org_id"),
    [
        (b'["acme","calls","user","u1"]', "acme"),
        (b'["","calls","user","u1"]', ""),
        (b'["acme","calls","user"]', None),
        (b'["acme","calls","user",1]', None),
        (b"\xff\xfe", None),
        (b"", None),
        (b"{}", None),
    ],
)
def test_the_organization_of_a_key(key: bytes, org_id: str | None) -> None:
    assert org_of(key) == org_id


def test_messages_and_rows_of_each_organization_have_to_agree() -> None:
    tally = OrgTally()
    keys = [b'["acme","calls","user","u1"]', b'["acme","calls","user","u2"]', b'["other","calls","user","u1"]', b"?"]
    tally.add_log(pl.Series(keys, dtype=pl.Binary))
    tally.add_rows("usage_records", pl.DataFrame({"org_id": ["acme", "other"]}))
    tally.add_rows("usage_duplicates", pl.DataFrame({"org_id": ["acme"]}))
    tally.add_rows("usage_rejected", pl.DataFrame({"key": pl.Series([b"?"], dtype=pl.Binary)}))
    assert list(tally.differences(0)) == []
    tally.add_rows("usage_duplicates", pl.DataFrame({"org_id": ["acme"]}))
    (finding,) = tally.differences(0)
    assert (finding.name, finding.expected, finding.found) == ("organization 'acme'", "2", "3 (1 + 2 + 0)")


def test_organizations_of_all_partitions_together() -> None:
    some = (OrgCounts("b", 1, 2, 3, 6), OrgCounts(None, 0, 0, 1, 1))
    assert summed([some, (OrgCounts("a", 1, 0, 0, 1), OrgCounts("b", 1, 0, 0, None))]) == (
        OrgCounts("a", 1, 0, 0, 1),
        OrgCounts("b", 2, 2, 3, None),
        OrgCounts(None, 0, 0, 1, 1),
    )
