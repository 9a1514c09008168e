"""The stored windows that a batch of the fold looks up: exact, newest version, whatever the names are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from meterfold_local.stack import LocalStack
from meterfold_processor.fold.opening import StoredHistory
from meterfold_processor.fold.store import FIRST_NAME
from meterfold_processor.fold.subjects import SUBJECT, subject_keys
from meterfold_schemas.keys import Name
from meterfold_schemas.periods import Period, micros
from meterfold_sink import fold_windows
from meterfold_sink.client import Client
from support.sink.database import database, empty, insert
from support.sink.rows import NOW, Window, window, windows_table

HOUR = NOW.replace(minute=0, second=0)
EPOCH = datetime.fromtimestamp(0, UTC)
NAMES = [
    "",
    "'; DROP TABLE usage_windows; --",
    'back\\slash "quotes" `ticks`',
    "tab\tline\nreturn\rnothing\x00",
    "{partition:Int32} %(x)s {}",
    "\\N",
    "ünïcødé 漢字 🧮 \u2028",
    "[1,2]",
    "a",
    "b",
]


@pytest.fixture(scope="module")
def shared(stack: LocalStack) -> Iterator[Client]:
    with database(stack) as client:
        yield client


@pytest.fixture
def client(shared: Client) -> Client:
    return empty(shared)


def wanted(windows: list[Window]) -> pl.DataFrame:
    rows = [[*(window.row()[name] for name in SUBJECT), micros(window.period_start)] for window in windows]
    frame = pl.DataFrame(rows, schema=[*SUBJECT, "start"], orient="row")
    return frame.with_columns(key=subject_keys(frame))


def found_among(
    history: StoredHistory, period: Period, windows: list[Window], low: Name = FIRST_NAME
) -> dict[tuple[object, ...], int]:
    """Subject and start -> folded_through of what was wanted and found."""
    asked = wanted(windows)
    found = history.find_windows(period, asked, low).with_columns(start=pl.col("period_start").to_physical())
    assert found.select(*SUBJECT, "start").is_unique().all(), "each window once"
    rows = found.join(asked.unique(), on=[*SUBJECT, "start"]).select(*SUBJECT, "start", "folded_through").rows()
    return {tuple(row[:-1]): row[-1] for row in rows}


def named(window: Window) -> tuple[object, ...]:
    return (*(window.row()[name] for name in SUBJECT), micros(window.period_start))


@pytest.mark.parametrize("few", [50, 0])
def test_single_windows_by_key_and_by_hash(client: Client, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(fold_windows, "FEW", few)
    stored = [
        window(period, start, 1, subject_id=name, org_id=NAMES[-1 - number], partition=1).changed(folded_through=number)
        for number, name in enumerate(NAMES)
        for period, start in (
            (Period.HOURLY, HOUR),
            (Period.HOURLY, HOUR - timedelta(hours=1)),
            (Period.LIFETIME, EPOCH),
        )
    ]
    insert(client, "usage_windows", windows_table(stored))
    newer = [one.changed(folded_through=100 + one.folded_through) for one in stored[::2]]
    insert(client, "usage_windows", windows_table(newer))
    insert(client, "usage_windows", windows_table([one.changed(folded_through=-1) for one in stored[1::3]]))
    elsewhere = [window(Period.HOURLY, HOUR, 1, subject_id="a", org_id="elsewhere", partition=0)]
    insert(client, "usage_windows", windows_table(elsewhere))
    through = {(one.period_type, named(one)): one.folded_through for one in [*stored, *newer]}
    history = StoredHistory(client, 1, "topic")
    for period in (Period.HOURLY, Period.LIFETIME, Period.DAILY):
        kind = [one for one in stored if one.period_type == period]
        assert found_among(history, period, [*kind, *elsewhere]) == {
            name: offset for (of, name), offset in through.items() if of == period
        }
        some = kind[::3]
        assert found_among(history, period, some or elsewhere).keys() == {named(one) for one in some}


def test_thousands_at_once(client: Client) -> None:
    size = 30 * fold_windows.FEW
    stored = [window(Period.DAILY, HOUR.replace(hour=0), 1, subject_id=f"u{n}") for n in range(2 * size)]
    insert(client, "usage_windows", windows_table(stored))
    strangers = [window(Period.DAILY, HOUR.replace(hour=0), 1, subject_id=f"x{n}") for n in range(size)]
    history = StoredHistory(client, 0, "topic")
    assert found_among(history, Period.DAILY, [*stored[::2], *strangers]).keys() == {named(one) for one in stored[::2]}
    found = history.find_windows(Period.DAILY, wanted(stored[::2]), FIRST_NAME)
    assert found.height == size, "nothing else is sent"


def test_how_many_windows_are_stored(client: Client) -> None:
    stored = [window(Period.HOURLY, HOUR - timedelta(hours=n), 1, subject_id=name) for n in (0, 2) for name in "abc"]
    insert(client, "usage_windows", windows_table([*stored, window(Period.DAILY, HOUR, 1)]))
    starts = [micros(HOUR - timedelta(hours=n)) for n in range(4)]
    assert StoredHistory(client, 0, "topic").count_windows(Period.HOURLY, starts) == {starts[0]: 3, starts[2]: 3}
    assert StoredHistory(client, 1, "topic").count_windows(Period.HOURLY, starts) == {}
    assert StoredHistory(client, 0, "topic").count_windows(Period.LIFETIME, [0]) == {}


def loaded(history: StoredHistory, period: Period, low: Name, high: Name | None) -> pl.DataFrame:
    parts = list(history.load_part(period, 0, low, high))
    return pl.concat(parts) if parts else pl.DataFrame(schema=SUBJECT)


def test_a_bucket_in_parts(client: Client) -> None:
    """Every window once, in its newest version, whatever the names are and wherever a part ends."""
    stored = [
        window(Period.LIFETIME, EPOCH, 1, org_id=org, subject_id=name, metric_key=key, partition=1)
        for org in NAMES
        for name in NAMES
        for key in ("a", "b")
    ]
    insert(client, "usage_windows", windows_table([one.changed(folded_through=-1) for one in stored[::3]]))
    insert(client, "usage_windows", windows_table(stored))
    newer = [one.changed(folded_through=100) for one in stored[::7]]
    beside = [
        window(Period.LIFETIME, EPOCH, 1, org_id="a", subject_id="elsewhere", partition=0),
        window(Period.HOURLY, HOUR, 1, org_id="a", subject_id="an hour", partition=1),
    ]
    insert(client, "usage_windows", windows_table([*newer, *beside]))
    expected = {named(one): one.folded_through for one in [*stored, *newer]}
    history = StoredHistory(client, 1, "topic")
    ends = history.names_apart(Period.LIFETIME, 0, 5)
    assert ends == sorted(set(ends), key=lambda name: tuple(part.encode() for part in name))
    assert 10 < len(ends) < 120
    assert history.names_apart(Period.LIFETIME, 0, 1)[::199] == [min(expected)[:4], max(expected)[:4]]
    found = dict[tuple[object, ...], int]()
    low = FIRST_NAME
    for high in [*ends, None]:
        part = loaded(history, Period.LIFETIME, low, high)
        rows = {(*row[:4], 0): row[4] for row in part.select(*SUBJECT, "folded_through").iter_rows()}
        assert len(rows) == part.height
        assert not rows.keys() & found.keys()
        assert all(low <= name[:4] and (high is None or name[:4] < high) for name in rows)
        later = [one for one in stored if low <= named(one)[:4]]
        assert found_among(history, Period.LIFETIME, later, low) == {named(one): expected[named(one)] for one in later}
        found |= rows
        low = high or low
    assert found == expected
    assert loaded(history, Period.DAILY, FIRST_NAME, None).is_empty()
    assert history.names_apart(Period.DAILY, 0, 1) == []


def test_a_part_is_read_by_the_primary_key(client: Client) -> None:
    client.command(
        "INSERT INTO usage_windows SELECT 'o', 'm', 'user', leftPad(toString(number), 7, '0'), 'lifetime', "
        "toDateTime64(0, 6, 'UTC'), 0, 1, 1, 1, 1, 1, now64(6), number, number FROM numbers(200000)"
    )
    low, high = ("o", "m", "user", "0050000"), ("o", "m", "user", "0060000")
    condition = f"{fold_windows._not_before(low)} AND NOT {fold_windows._not_before(high)}"
    sql = f"SELECT count() FROM usage_windows WHERE {fold_windows._buckets(0, Period.LIFETIME, [0])} AND {condition}"
    plan = "\n".join(str(row["explain"]) for row in client.rows(f"EXPLAIN indexes = 1 {sql}"))
    read = min(int(chosen) for chosen, _ in re.findall(r"Granules: (\d+)/(\d+)", plan))
    assert read <= 4, plan
    assert loaded(StoredHistory(client, 0, "topic"), Period.LIFETIME, low, high).height == 10_000
