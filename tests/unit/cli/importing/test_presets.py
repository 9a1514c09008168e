"""Each preset with a file as its system writes it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from meterfold_cli.importing import mapping_file
from meterfold_cli.importing.checking import Checked, check
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.source import Form, Source
from meterfold_schemas.usage import UsageRecorded
from support import import_files as files

NOW = datetime(2026, 11, 26, 10, tzinfo=UTC)
YESTERDAY = datetime(2026, 11, 25, tzinfo=UTC)


class Events:
    """An observer that keeps the events, as the fold would read them."""

    def __init__(self) -> None:
        self.events: list[UsageRecorded] = []
        self.reasons: list[str] = []

    def event(self, line: int, event: dict[str, Any]) -> None:
        self.events.append(UsageRecorded.from_bytes(UsageRecorded.of(event).to_bytes()))

    def refused(self, line: int, reason: str) -> None:
        self.reasons.append(reason)

    @property
    def bodies(self) -> list[tuple[str, str, Decimal]]:
        return [(e.metric_key, f"{e.subject_type}:{e.subject_id}", e.quantity) for e in self.events]


def checked(path: Path, preset: str, **options: Any) -> tuple[Checked, Events]:
    seen = Events()
    base = mapping_file.preset(preset)
    made = Options(**{"mapping": {}, "fixed": {}, "id_from": [], "ignore_others": False, **options, "base": base})
    with Source(path, made, Form()) as source:
        rows, plan = source.open()
        return check(rows, plan, "", None, lambda *_, **__: None, observer=seen), seen


def metadata(event: UsageRecorded) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.metadata or "{}")
    return found


def test_focus(tmp_path: Path) -> None:
    found, seen = checked(files.write_focus(tmp_path / "focus.csv", NOW), "focus-1.3")
    compute = "amazon_elastic_compute_cloud.compute_hours"
    assert seen.bodies == [
        (compute, "account:210987654321", Decimal(24)),
        (compute, "account:210987654321", Decimal("0.000277778")),
        ("amazon_s3", "account:123456789012", Decimal(7)),
    ]
    assert (found.rows, found.left_out, found.unusable, found.rounded, len(found.conflicts)) == (5, 2, 0, 1, 0)
    first = seen.events[0]
    assert (first.timestamp, first.source, first.resource_type, first.resource_id) == (
        YESTERDAY,
        "focus",
        "Virtual Machine",
        "i-1",
    )
    assert metadata(first) == {
        "unit": "Hours",
        "region": "eu-central-1",
        "service": "Amazon Elastic Compute Cloud",
        "service_category": "Compute",
        "provider": "AWS",
        "host": "AWS",
        "sku": "SKU1",
        "sku_price": "SKU1.P1",
        "tags": {"env": "prod"},
    }


def test_a_focus_file_with_costs_that_changed_has_the_same_ids(tmp_path: Path) -> None:
    rows = files.focus_rows(NOW)
    later = [{**row, "BilledCost": "9", "InvoiceId": "INV1", "AllocatedTags": "x"} for row in rows]
    (tmp_path / "later.csv").write_text(files.csv_text(files.FOCUS_COLUMNS, later), encoding="utf-8")
    _, first = checked(files.write_focus(tmp_path / "focus.csv", NOW), "focus-1.3")
    _, second = checked(tmp_path / "later.csv", "focus-1.3")
    assert [event.id for event in first.events] == [event.id for event in second.events]
    assert len({event.id for event in first.events}) == 3


def test_a_focus_file_in_parquet_has_tags_as_a_map(tmp_path: Path) -> None:
    """Columns that are conditional may be missing, and timestamps and quantities have types."""
    used = files.focus_rows(NOW)[0]
    names = [name for name in used if name not in ("Tags", "ChargePeriodStart", "ConsumedQuantity", "SkuPriceId")]
    table = pa.table(
        {
            **{name: [used[name]] for name in names},
            "ChargePeriodStart": pa.array([YESTERDAY], pa.timestamp("ms", "UTC")),
            "ConsumedQuantity": pa.array([Decimal("24.5")], pa.decimal128(38, 10)),
            "Tags": pa.array([[("env", "prod")]], pa.map_(pa.string(), pa.string())),
        }
    )
    pa.parquet.write_table(table, tmp_path / "focus.parquet")
    found, seen = checked(tmp_path / "focus.parquet", "focus-1.3")
    assert seen.reasons == []
    assert found.rows == 1
    assert seen.events[0].quantity == Decimal("24.5")
    assert seen.events[0].timestamp == YESTERDAY
    assert metadata(seen.events[0])["tags"] == {"env": "prod"}


def test_the_aws_reports(tmp_path: Path) -> None:
    expected = [
        ("amazonec2.euc1-boxusage_t3.medium", "account:222222222222", Decimal(1)),
        ("amazonec2.euc1-boxusage_t3.medium", "account:222222222222", Decimal(1)),
    ]
    found, seen = checked(files.write_cur(tmp_path / "report-00001.csv.gz", NOW), "aws-cur")
    assert seen.bodies == expected
    assert (found.left_out, found.rounded, len(found.conflicts)) == (1, 1, 0)
    assert seen.events[0].timestamp == YESTERDAY
    assert metadata(seen.events[0])["unit"] == "Hrs"
    assert metadata(seen.events[0])["user:env"] == "prod"
    assert seen.events[0].id != seen.events[1].id
    again = [{**row, "identity/LineItemId": "other"} for row in files.cur_rows(NOW)]
    (tmp_path / "again.csv").write_text(files.csv_text(files.CUR_COLUMNS, again), encoding="utf-8")
    assert [e.id for e in checked(tmp_path / "again.csv", "aws-cur")[1].events] == [e.id for e in seen.events]

    rows = [{new: row.get(old, "") for old, new in files.CUR_2_COLUMNS.items()} for row in files.cur_rows(NOW)]
    frame = pl.DataFrame(rows).with_columns(
        pl.col("line_item_usage_amount").cast(pl.Float64),
        pl.col("line_item_usage_start_date", "line_item_usage_end_date").str.to_datetime(
            "%Y-%m-%dT%H:%M:%SZ", time_unit="ms"
        ),
    )
    frame.write_parquet(tmp_path / "cur2.parquet")
    found, seen = checked(tmp_path / "cur2.parquet", "aws-cur-2", timezone="UTC")
    assert seen.bodies == expected
    assert found.left_out == 1


def test_an_openai_export_as_json_and_as_csv_has_the_same_events(tmp_path: Path) -> None:
    (tmp_path / "page.json").write_text(json.dumps(files.openai_page(NOW), indent=2), encoding="utf-8")
    (tmp_path / "pages.jsonl").write_text(files.json_lines([files.openai_page(NOW)] * 2), encoding="utf-8")
    (tmp_path / "usage.csv").write_text(files.openai_csv(NOW), encoding="utf-8")
    _, page = checked(tmp_path / "page.json", "openai-usage")
    assert page.bodies == [
        ("openai.input_tokens", "api_key:key_1", Decimal(1000)),
        ("openai.output_tokens", "api_key:key_1", Decimal(500)),
        ("openai.input_cached_tokens", "api_key:key_1", Decimal(800)),
        ("openai.requests", "api_key:key_1", Decimal(5)),
        ("openai.input_tokens", "api_key:key_2", Decimal(1000)),
        ("openai.requests", "api_key:key_2", Decimal(5)),
    ]
    assert {event.id for event in page.events[:4]} == {page.events[0].id}
    assert {event.timestamp for event in page.events} == {NOW - timedelta(hours=2)}
    assert metadata(page.events[0])["model"] == "gpt-4o-2024-08-06"
    _, table = checked(tmp_path / "usage.csv", "openai-usage")
    assert [(e.id, *body) for e, body in zip(table.events, table.bodies, strict=True)] == [
        (e.id, *body) for e, body in zip(page.events, page.bodies, strict=True)
    ]
    found, pages = checked(tmp_path / "pages.jsonl", "openai-usage")
    assert (found.rows, found.repeats, len(pages.events)) == (4, 6, 12)


def test_an_openai_activity_export(tmp_path: Path) -> None:
    (tmp_path / "activity.csv").write_text(files.openai_activity(NOW), encoding="utf-8")
    _, seen = checked(tmp_path / "activity.csv", "openai-activity")
    assert seen.bodies == [
        ("openai.input_tokens", "api_key:web", Decimal(70)),
        ("openai.output_tokens", "api_key:web", Decimal(30)),
        ("openai.requests", "api_key:web", Decimal(3)),
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_litellm_spend_log(tmp_path: Path, suffix: str) -> None:
    """As JSON Lines, and as PostgreSQL copies the table to CSV."""
    rows = files.spend_rows(NOW)
    path = tmp_path / f"spend.{suffix}"
    if suffix == "jsonl":
        path.write_text(files.json_lines(rows), encoding="utf-8")
    else:
        cells = [
            {name: json.dumps(value) if isinstance(value, list | dict) else value for name, value in row.items()}
            for row in rows
        ]
        path.write_text(files.csv_text(list(rows[0]), cells), encoding="utf-8")
    found, seen = checked(path, "litellm")
    assert seen.bodies == [
        ("litellm.prompt_tokens", "user:ada", Decimal(10)),
        ("litellm.completion_tokens", "user:ada", Decimal(20)),
        ("litellm.spend", "user:ada", Decimal("0.0000138")),
        ("litellm.prompt_tokens", "end_user:customer-7", Decimal(10)),
        ("litellm.completion_tokens", "end_user:customer-7", Decimal(20)),
        ("litellm.spend", "end_user:customer-7", Decimal("0.5")),
    ]
    assert (found.left_out, found.rounded, seen.reasons) == (1, 1, [])
    assert {event.id for event in seen.events} == {"chatcmpl-1", "chatcmpl-2"}
    assert metadata(seen.events[0])["tags"] == ["team:red"]
    assert seen.events[0].timestamp == NOW - timedelta(hours=3) + timedelta(milliseconds=123)


def test_a_preset_takes_options(tmp_path: Path) -> None:
    path = tmp_path / "spend.jsonl"
    path.write_text(files.json_lines(files.spend_rows(NOW)), encoding="utf-8")
    _, seen = checked(path, "litellm", fixed={"org_id": "acme"}, where=["user=ada"], rounding="refuse")
    assert {event.org_id for event in seen.events} == {"acme"}
    assert seen.reasons == [
        "column 'spend': quantity '1.3800000000000002e-05' has more than 9 decimals; round it with --rounding "
        "half_even, or choose a smaller unit with --scale"
    ]


def test_every_preset_has_a_description_and_a_test() -> None:
    assert all(mapping_file.presets().values())
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in mapping_file.presets() if f'"{name}"' not in text] == []
