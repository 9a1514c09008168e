"""An import as a whole, with the real rules of the SDK and a broker that the test plays."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.run import Import, Summary
from meterfold_cli.importing.source import Form, Source
from meterfold_cli.importing.timestamps import zone_named
from support.played_meter import PlayedMeter

PLAIN = Options(mapping={}, fixed={}, id_from=[], ignore_others=False)
HEADER = "id,metric_key,subject_type,subject_id,quantity,timestamp\n"
AT = "2026-11-22T10:00:00Z"


def run(
    path: Path, meter: PlayedMeter, options: Options = PLAIN, timezone: str | None = None, time_format: str = "iso"
) -> Summary:
    with Source(path, options, Form(None, time_format, zone_named(timezone))) as source:
        rows, plan = source.open()
        return Import(rows, plan, meter, source.rejects(rows, None), lambda *_, **__: None).run()  # type: ignore[arg-type]


def line(number: int, quantity: str = "1", at: str = AT) -> str:
    return f"e{number},m,user,u,{quantity},{at}\n"


def test_bad_rows_are_kept_with_line_and_reason_and_their_neighbours_go_on(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        HEADER + line(2, "0.1") + line(3, "1,5") + line(4, "much") + line(5, "0.0000000001") + line(6, at="today")
        + line(7, "-12345678901234567890.123456789"),
        encoding="utf-8",
    )  # fmt: skip
    meter = PlayedMeter()
    summary = run(path, meter)
    assert [(event.id, event.quantity) for event in meter.events] == [
        ("e2", Decimal("0.1")),
        ("e7", Decimal("-12345678901234567890.123456789")),
    ]
    assert (summary.read, summary.handed_in, summary.delivered, summary.refused) == (6, 2, 2, 4)
    assert not summary.well
    assert summary.rejects is not None
    with summary.rejects.open(encoding="utf-8", newline="") as file:
        rejected = list(csv.reader(file))
    assert rejected[0] == ["rejected_line", "rejected_reason", *HEADER.strip().split(",")]
    assert [row[0] for row in rejected[1:]] == ["3", "4", "5", "6"]
    assert "7 cells where the header has 6" in rejected[1][1]
    assert "is not a decimal number" in rejected[2][1]
    assert "more than 9 decimals" in rejected[3][1]
    assert rejected[2][2:] == ["e4", "m", "user", "u", "much", AT]


def test_a_corrected_rejects_file_is_imported_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(HEADER + line(2, "much"), encoding="utf-8")
    first = run(path, PlayedMeter()).rejects
    assert first is not None
    first.write_text(first.read_text(encoding="utf-8").replace("much", "5"), encoding="utf-8")
    meter = PlayedMeter()
    assert run(first, meter).well
    assert [(event.id, event.quantity) for event in meter.events] == [("e2", Decimal(5))]
    again = run(path, PlayedMeter()).rejects
    assert again is not None
    assert again != first
    assert ",5," in first.read_text(encoding="utf-8")


def test_a_full_buffer_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(HEADER + line(2) + line(3), encoding="utf-8")
    meter = PlayedMeter(full=3)
    assert run(path, meter).well
    assert [event.id for event in meter.events] == ["e2", "e3"]


def test_it_stops_when_events_are_not_delivered_and_says_what_is_not(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(HEADER + "".join(line(number) for number in range(5000)), encoding="utf-8")
    meter = PlayedMeter(broken_from=500)
    summary = run(path, meter)
    assert (summary.read, summary.handed_in, summary.delivered, summary.failed) == (1000, 1000, 500, 500)
    assert not summary.complete
    assert meter.closed


def test_ctrl_c_ends_it_with_an_account(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text(HEADER + "".join(line(number) for number in range(10)), encoding="utf-8")
    meter = PlayedMeter(interrupted_at=4)
    summary = run(path, meter)
    assert summary.interrupted
    assert (summary.last_line, summary.handed_in) == (6, 4)
    assert meter.closed


def write_parquet(path: Path, **columns: Any) -> Path:
    count = len(next(iter(columns.values())))
    plain = {"metric_key": ["m"] * count, "subject_type": ["user"] * count}
    pq.write_table(pa.table({**plain, **columns}), path, row_group_size=2)
    return path


def test_parquet_with_numbers_decimals_and_times_of_every_unit(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 22, 10, 0, 0, 123_000, tzinfo=UTC)
    for unit in ("ms", "us", "ns"):
        path = write_parquet(
            tmp_path / f"{unit}.parquet",
            id=[1, 2, 3],
            subject_id=["u", "u", None],
            quantity=pa.array([Decimal("0.1"), Decimal("-1.123456789"), Decimal(1)], pa.decimal128(20, 9)),
            timestamp=pa.array([moment] * 3, pa.timestamp(unit, "UTC")),
        )
        meter = PlayedMeter()
        summary = run(path, meter)
        assert [(e.id, e.quantity, e.timestamp) for e in meter.events] == [
            ("1", Decimal("0.1"), moment),
            ("2", Decimal("-1.123456789"), moment),
        ]
        assert (summary.read, summary.refused, summary.last_line) == (3, 1, 3)


def test_parquet_times_without_a_zone_need_one(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "local.parquet",
        id=["a"],
        subject_id=["u"],
        timestamp=pa.array([datetime(2026, 7, 1, 12)], pa.timestamp("us")),  # noqa: DTZ001
    )
    with pytest.raises(WrongInput, match="have no time zone; give it with --timezone"):
        run(path, PlayedMeter())
    meter = PlayedMeter()
    assert run(path, meter, timezone="Europe/Berlin").well
    assert meter.events[0].timestamp == datetime(2026, 7, 1, 10, tzinfo=UTC)


def test_parquet_columns_that_are_no_text_and_files_that_are_no_parquet_are_refused(tmp_path: Path) -> None:
    times = pa.array([datetime(2026, 7, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    path = write_parquet(tmp_path / "float.parquet", id=[1.5], subject_id=["u"], timestamp=times)
    with pytest.raises(WrongInput, match="'id' is double; it must be text or an integer"):
        run(path, PlayedMeter())
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(WrongInput, match="is not a valid Parquet file"):
        run(broken, PlayedMeter())
    with pytest.raises(WrongInput, match="not a kind of file"):
        run(tmp_path / "events.xlsx", PlayedMeter())


def test_values_for_every_row_are_judged_before_the_first(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("id,subject_id\na,u\n", encoding="utf-8")
    fixed = {"metric_key": "Upper Case", "subject_type": "user", "timestamp": AT}
    with pytest.raises(WrongInput, match="--set: metric_key 'Upper Case'"):
        run(path, PlayedMeter(), Options(mapping={}, fixed=fixed, id_from=[], ignore_others=False))
