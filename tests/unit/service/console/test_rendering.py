"""How values are written, and what templates and files must be."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.zones import zone_of
from meterfold_service.console import fields
from meterfold_service.console.pages.rejected import bytes_shown
from meterfold_service.console.pages.static import NAMES
from meterfold_service.console.rendering import (
    ago,
    environment,
    org_text,
    quantity,
    shown_precision,
    static_url,
    url,
)
from meterfold_service.console.snippets import Asked, snippets
from meterfold_service.console.usage_table import Sum, are_all, before, period_name, rows_of, sum_of
from meterfold_service.usage.calendar import Calendar
from meterfold_service.usage.results import UsageSummary
from meterfold_sink.example_sql import literal
from unit.service.console.desk import METRIC, NOW, SUMMARY

CONSOLE = files("meterfold_service.console")
TEMPLATES = sorted(entry.name for entry in (CONSOLE / "templates").iterdir())
AT = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_has_nothing_inline(name: str) -> None:
    text = (CONSOLE / "templates" / name).read_text(encoding="utf-8")
    assert not re.search(r"\|\s*safe\b|autoescape|\bMarkup\b", text)
    assert not re.search(r"\son[a-z]+\s*=|\sstyle\s*=|javascript:|hx-on|hx-vals=.js:", text, re.IGNORECASE)
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"""(src|href)=["']https?:""", text)
    if name.endswith(".html"):
        environment().get_template(name)


def test_our_scripts_set_text_only() -> None:
    for name in ("charts.js", "console.js", "theme.js"):
        text = (CONSOLE / "static" / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function", text), name


def test_third_party_files_are_those_of_the_lock() -> None:
    vendor = CONSOLE / "static/vendor"
    lock = json.loads((vendor / "vendor.lock.json").read_text(encoding="utf-8"))
    pinned = {entry["to"]: entry["sha256"] for package in lock["packages"] for entry in package["files"]}
    found = {
        entry.name: hashlib.sha256(entry.read_bytes()).hexdigest()
        for entry in vendor.iterdir()
        if entry.name != "vendor.lock.json"
    }
    assert found == pinned
    for package in lock["packages"]:
        assert package["integrity"].startswith("sha512-")
        assert package["license"]
        assert any(entry["from"].startswith("LICENSE") for entry in package["files"])


def test_every_static_file_is_served_and_named_by_its_content() -> None:
    shipped = {
        path.name if folder == "static" else f"vendor/{path.name}"
        for folder in ("static", "static/vendor")
        for path in (CONSOLE / folder).iterdir()
        if path.is_file() and path.name.rpartition(".")[2] in ("js", "css", "svg")
    }
    assert shipped == set(NAMES)
    assert re.fullmatch(r"/static/console\.css\?v=[0-9a-f]{12}", static_url("console.css"))


@pytest.mark.parametrize(
    ("value", "precision", "text"),
    [
        (Decimal("1234567.500000000"), None, "1,234,567.5"),
        (Decimal("1234567.500000000"), 2, "1,234,567.50"),
        (Decimal("0E-9"), 2, "0.00"),
        (Decimal("-1234.000000001"), 0, "-1,234.000000001"),
        (Decimal("1E+3"), None, "1,000"),
        (7, None, "7"),
    ],
)
def test_quantities_keep_all_digits(value: Decimal, precision: int | None, text: str) -> None:
    assert quantity(value, precision) == text


def test_times_ago() -> None:
    assert ago(AT - timedelta(seconds=3), AT) == "3 s ago"
    assert ago(AT - timedelta(hours=49), AT) == "2 d ago"
    assert ago(AT + timedelta(seconds=3), AT) == "0 s ago"


@given(org=st.text(min_size=1).filter(lambda text: text == text.strip() and text != '""'))
def test_an_organization_survives_a_form(org: str) -> None:
    for one in (org, "", None):
        assert fields.org_of({"org": org_text(one)}) == one


@given(st.text(), st.text())
def test_an_address_is_ours_and_keeps_its_values(name: str, value: str) -> None:
    found = url("/usage", metric=value, group=name)
    assert found.startswith("/usage")
    asked = parse_qs(urlsplit(found).query)
    assert asked.get("metric", [""])[0] == value


def test_fields_name_what_is_wrong() -> None:
    zone = zone_of("Europe/Berlin")
    assert fields.moment({"start": "2026-07-01"}, "start", zone) == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert fields.moment({"start": "2026-07-01T00:00:00Z"}, "start", zone) == datetime(2026, 7, 1, tzinfo=UTC)
    assert fields.decimal({"v": "1,000.5"}, "v") == Decimal("1000.5")
    for wrong in (
        lambda: fields.moment({"start": "yesterday"}, "start", zone),
        lambda: fields.decimal({"v": "many"}, "v"),
        lambda: fields.number({"v": "1.5"}, "v", 0),
        lambda: fields.subject_of({"subject_type": "user"}),
    ):
        with pytest.raises(InvalidUsage):
            wrong()


@pytest.mark.parametrize("period", ["hourly", "daily", "weekly", "monthly", "yearly"])
@pytest.mark.parametrize("tz", [None, "Europe/Berlin", "America/St_Johns"])
def test_the_time_before_has_as_many_periods(period: str, tz: str | None) -> None:
    calendar = Calendar.of(period, tz)
    start, end = AT - timedelta(days=3 if period == "hourly" else 500), AT
    windows = calendar.windows(int(start.timestamp() * 1e6), int(end.timestamp() * 1e6), 10_000)
    first, last = before(calendar, start, end)
    earlier = calendar.windows(int(first.timestamp() * 1e6), int(last.timestamp() * 1e6), 10_000)
    assert len(earlier) == len(windows)
    assert earlier[-1].end == windows[0].start


def summary(day: int, total: str | None, **more: Any) -> UsageSummary:
    start = NOW.replace(day=day, hour=0)
    values = {"period_type": "daily", "period_start": start, "period_end": start + timedelta(days=1), **more}
    return replace(SUMMARY, org_id="acme", total_quantity=None if total is None else Decimal(total), **values)


def test_rows_are_added_up_where_that_means_something() -> None:
    rows = [summary(1, "2.5"), summary(2, "-1")]
    assert sum_of(rows, "sum") == Sum(Decimal("1.5"), 6)
    assert sum_of(rows, "count") is not None
    for kind in ("max", "min", "last"):
        assert sum_of(rows, kind) is None
    assert sum_of([*rows, summary(3, None)], "sum") is None
    assert sum_of(rows[:1], "sum") is None


def test_a_sum_is_of_all_rows() -> None:
    rows = [summary(1, "1", subject_id=f"u{n}") for n in range(19)]
    asked = Asked("api.calls", "daily", NOW, NOW, group=("subject",))
    assert are_all(asked, rows, 19)
    assert not are_all(asked, rows, 20), "there are more behind them"
    assert not are_all(asked, [*rows, summary(1, "1")], 20), "twenty are shown, and there may be more"
    assert are_all(asked, [*rows, summary(2, "1")], 20)
    assert are_all(Asked("api.calls", "daily", NOW, NOW), [*rows, summary(1, "1")], 20)


def link_of(asked: Asked, row: UsageSummary) -> dict[str, list[str]]:
    (made,) = rows_of(asked, UTC, [row], (), Calendar.of(asked.period, None, None))
    return parse_qs(urlsplit(made.link).query)


def test_a_row_leads_to_what_is_behind_it() -> None:
    asked = Asked("api.calls", "daily", NOW, NOW, group=("model",), where={"region": ["eu"], "model": ["a", "b"]})
    of_group = link_of(asked, summary(1, "2", subject_type=None, subject_id=None, group={"model": "a"}))
    assert (of_group["group"], of_group["where"]) == (["subject"], ["region=eu, model=a"])
    without = link_of(asked, summary(1, "2", subject_type=None, subject_id=None, group={"model": None}))
    assert without["where"] == ["region=eu, model"]
    comma = link_of(asked, summary(1, "2", subject_type=None, subject_id=None, group={"model": "a, b"}))
    assert comma == {}, "an address cannot say it"
    both = link_of(replace(asked, group=("subject", "model")), summary(1, "2", group={"model": "a"}))
    assert (both["where"], both["start"]) == (["region=eu, model=a"], ["2026-11-01T00:00:00+00:00"])
    always = link_of(
        Asked("api.calls", "lifetime", NOW, NOW, subject=("user", "ada")),
        summary(1, "2", period_type="lifetime", period_end=None, group={}),
    )
    assert "end" not in always
    assert "subject_id" in always


def test_a_number_of_events_has_no_decimals() -> None:
    assert shown_precision(METRIC) == METRIC.precision == 2
    assert shown_precision(METRIC.changed(aggregation_type="count")) == 0


def test_periods_have_names() -> None:
    zone = zone_of("Asia/Tokyo")
    at = datetime(2026, 11, 30, 15, tzinfo=UTC)
    assert period_name("daily", at, zone) == "2026-12-01 Tue"
    assert period_name("monthly", at, zone) == "2026-12"
    assert period_name("billing", at, zone) == "from 2026-12-01"
    assert period_name("lifetime", at, zone) == "always"


def test_bytes_are_text_or_hexadecimal() -> None:
    assert bytes_shown("grüße\n".encode()) == ("grüße\n", False)
    assert bytes_shown(b"\x00a") == (f"00000  {'00 61':47}  .a", True)
    assert bytes_shown(b"a" * 5000).text.endswith("904 more")


@given(st.text(), st.text(), st.text())
def test_what_is_copied_says_the_same_whatever_the_text(metric: str, kind: str, subject: str) -> None:
    asked = Asked(metric, "daily", AT, AT + timedelta(days=1), org_id=kind, subject=(kind, subject))
    sql, curl, python = snippets(asked, "http://127.0.0.1:8888/", "sum")
    words = shlex.split(curl.text.replace("\\\n", ""))
    assert words[:3] == ["curl", "-s", "-H"]
    assert parse_qs(urlsplit(words[-1]).query, keep_blank_values=True)["subject_id"] == [subject]
    compile(python.text, "snippet", "exec")
    assert literal(subject) in sql.text


def test_sql_is_left_out_where_it_would_say_something_else() -> None:
    for asked, kind in (
        (Asked("a", "daily", AT, AT, tz="Europe/Berlin"), "sum"),
        (Asked("a", "billing", AT, AT, anchor=3), "sum"),
        (Asked("a", "daily", AT, AT, group=("route",)), "sum"),
        (Asked("a", "daily", AT, AT), "max"),
    ):
        (sql, _, _) = snippets(asked, "http://x/", kind)
        assert not sql.text
        assert sql.note
