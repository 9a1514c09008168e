"""From columns and options to events: mapping, fixed values, ids, timestamps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.plan import Plan, row_id
from meterfold_cli.importing.planning import make_plan
from meterfold_cli.importing.resolving import resolve
from meterfold_cli.importing.timestamps import from_epoch, from_text, zone_named
from meterfold_schemas.errors import InvalidUsage

ALL = ("id", "metric_key", "subject_type", "subject_id", "timestamp")


def plan(columns: tuple[str, ...], *, readers: dict[str, Callable[[str], Any]] | None = None, **options: Any) -> Plan:
    given_options = Options(
        mapping=options.pop("mapping", {}),
        fixed=options.pop("fixed", {}),
        id_from=options.pop("id_from", ()),
        ignore_others=options.pop("ignore_others", False),
    )
    assert not options
    return make_plan(columns, resolve(columns, given_options), readers or {})


def test_columns_are_fields_of_their_own_name() -> None:
    event = plan((*ALL, "quantity", "org_id")).event(["e1", "m", "user", "u", "t", "1.50", ""])
    assert event == {
        "id": "e1",
        "metric_key": "m",
        "subject_type": "user",
        "subject_id": "u",
        "timestamp": "t",
        "quantity": "1.50",
    }


def test_columns_are_mapped_and_fields_are_set_for_every_row() -> None:
    made = plan(
        ("event", "at", "who", "seat", "note"),
        mapping={"event": "id", "at": "timestamp", "who": "subject_id", "seat": "metadata.seat"},
        fixed={"metric_key": "m", "subject_type": "user"},
        ignore_others=True,
    )
    assert made.event(["e1", "t", "u", "4a", "x"]) == {
        "id": "e1",
        "metric_key": "m",
        "subject_type": "user",
        "subject_id": "u",
        "timestamp": "t",
        "metadata": {"seat": "4a"},
    }
    assert "metadata" not in made.event(["e1", "t", "u", "", "x"])
    assert made.used == {"event", "at", "who", "seat"}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ((*ALL, "colour"), {}, "unknown column 'colour'"),
        ((*ALL, "quantiti"), {}, "Did you mean quantity"),
        (ALL[1:], {}, "no column provides the id"),
        (("id", "metric_key", "timestamp"), {}, "no column provides subject_type, subject_id"),
        (ALL, {"mapping": {"nope": "id"}}, "--map nope: the file has no column 'nope'"),
        (ALL, {"mapping": {"id": "ident"}}, "--map id=ident: 'ident' is not a field"),
        (ALL, {"fixed": {"metric_key": "m"}}, "the column 'metric_key' already provides metric_key"),
        ((*ALL, "x"), {"mapping": {"x": "id"}}, "both provide id"),
        ((*ALL, "id"), {}, "contains 'id' more than once"),
        (ALL, {"fixed": {"size": "m"}}, "--set size"),
        (ALL, {"id_from": ["nope"]}, "--id-from nope"),
    ],
)
def test_what_is_wrong_with_the_options_is_named(columns: Any, options: Any, message: str) -> None:
    with pytest.raises(WrongInput, match=message):
        plan(columns, **options)


def test_an_empty_cell_is_an_error_where_a_value_is_needed() -> None:
    with pytest.raises(InvalidUsage, match="quantity is empty"):
        plan((*ALL, "quantity")).event(["e1", "m", "user", "u", "t", ""])


def test_ids_are_made_of_columns_always_the_same() -> None:
    made = plan((*ALL[1:], "day", "no"), id_from=["day", "no"], ignore_others=True)
    first = made.event(["m", "user", "u", "t", "2013-01-01", "7"])
    assert first["id"] == "335d5239-3844-5962-a80b-4cecf790841a" == row_id(["2013-01-01", "7"])
    assert made.event(["m", "user", "v", "t", "2013-01-0", "17"])["id"] != first["id"]
    with pytest.raises(InvalidUsage, match="every column of --id-from is empty"):
        made.event(["m", "user", "u", "t", "", ""])


@given(st.lists(st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=2), unique_by=tuple, max_size=20))
def test_other_values_make_other_ids(rows: list[list[str]]) -> None:
    usable = [row for row in rows if all(c < "\ud800" or c > "\udfff" for text in row for c in text)]
    assert len({row_id(row) for row in usable}) == len(usable)


def test_a_rejects_file_is_imported_as_it_is() -> None:
    event = plan(("rejected_line", "rejected_reason", *ALL)).event(["3", "why", "e1", "m", "user", "u", "t"])
    assert "rejected_line" not in event
    assert event["id"] == "e1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T10:00:00Z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22 10:00:00.5+02:00", datetime(2026, 11, 22, 8, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-22T10:00-0530", datetime(2026, 11, 22, 15, 30, tzinfo=UTC)),
        ("2026-11-22T10:00:00.123456000Z", datetime(2026, 11, 22, 10, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_timestamps_with_an_offset_are_moments(text: str, expected: datetime) -> None:
    assert from_text(text, None) == expected


@pytest.mark.parametrize(
    "text",
    ["2026-11-22", "22.11.2026 10:00", "1795341600", "2026-11-22T10:00:00.1234567Z", "2026-13-01T00:00:00Z", "", "now"],
)
def test_other_timestamps_are_refused(text: str) -> None:
    with pytest.raises(InvalidUsage, match="timestamp"):
        from_text(text, UTC)


def test_a_time_without_a_zone_needs_one_and_no_guess_is_made_where_clocks_change() -> None:
    berlin = zone_named("Europe/Berlin")
    assert from_text("2026-07-01T12:00:00", berlin) == datetime(2026, 7, 1, 10, tzinfo=UTC)
    with pytest.raises(InvalidUsage, match="has no UTC offset; give the time zone of the file with --timezone"):
        from_text("2026-07-01T12:00:00", None)
    for wrong in ("2026-10-25T02:30:00", "2026-03-29T02:30:00"):
        with pytest.raises(InvalidUsage, match="twice or never"):
            from_text(wrong, berlin)
    with pytest.raises(WrongInput, match=r"'.*' is unknown; give UTC or an IANA name"):
        zone_named("Mars/Olympus")
    with pytest.raises(WrongInput, match=r"'Europe' is unknown"):
        zone_named("Europe")


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001
def test_integers_since_1970_are_read_exactly(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC)
    micros = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert from_epoch(1_000_000, None, local=False)(micros) == aware
    assert from_epoch(1_000_000_000, UTC, local=True)(micros * 1000) == aware
    with pytest.raises(InvalidUsage, match="finer than microseconds"):
        from_epoch(1_000_000_000, None, local=False)(micros * 1000 + 1)


def test_an_integer_out_of_range_is_an_error_of_its_row() -> None:
    with pytest.raises(InvalidUsage, match="out of range"):
        from_epoch(1, None, local=False)(10**15)
