"""What `import` finds before anything is sent, and that refused rows can be imported again as they are."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold import DeliveryCounts
from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.checking import CHECK_MARGIN_SECONDS, Checked, TimeLimits, check
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.run import Import, Summary
from meterfold_cli.importing.source import Form, Source
from meterfold_cli.importing.timestamps import zone_named
from meterfold_cli.importing.words import problems_of, require_none
from meterfold_schemas.periods import micros
from meterfold_schemas.usage import UsageRecorded
from meterfold_sink.rules import FoldRules

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
LIMITS = TimeLimits(35 * 86_400, 300, lambda: micros(NOW))
RULES = FoldRules(cluster_id="c", topic_id="t", partition_count=1)
HEADER = "id,metric_key,subject_type,subject_id,quantity,timestamp"
AT = "2026-11-22T10:00:00Z"


class TakingMeter:
    """Takes every event by the rules of the contract."""

    trouble: str | None = None

    def __init__(self) -> None:
        self.events: list[UsageRecorded] = []

    def record(self, metric_key: str, subject: tuple[str, str], quantity: Any = 1, **event: Any) -> str:
        made = {"metric_key": metric_key, "subject_type": subject[0], "subject_id": subject[1], "quantity": quantity}
        self.events.append(UsageRecorded.of({**made, **event}))
        return self.events[-1].id

    @property
    def counts(self) -> DeliveryCounts:
        return DeliveryCounts(len(self.events), len(self.events), 0)

    def flush(self, timeout: float | None = None) -> None: ...

    def close(self, timeout: float | None = None) -> None: ...


def options(**given_options: Any) -> Options:
    return Options(**{"mapping": {}, "fixed": {}, "id_from": [], "ignore_others": False, **given_options})


def checked(path: Path, wanted: Options | None = None, form: Form | None = None, org_id: str = "") -> Checked:
    with Source(path, wanted or options(), form or Form()) as source:
        rows, plan = source.open()
        found = check(rows, plan, org_id, LIMITS, lambda *_, **__: None)
        rows.close()
        return found


def imported(path: Path, wanted: Options | None = None, form: Form | None = None) -> tuple[TakingMeter, Summary]:
    """Both readings, as `import --partial` makes them."""
    meter = TakingMeter()
    with Source(path, wanted or options(), form or Form()) as source:
        rows, plan = source.open()
        refused = source.rejects(rows, None)
        found = check(rows, plan, "", LIMITS, lambda *_, **__: None)
        rows, plan = source.open()
        silent: Any = lambda *_, **__: None  # noqa: E731
        made = Import(rows, plan, meter, refused, silent, limits=LIMITS, conflicts=found.conflicts)  # type: ignore[arg-type]
        return meter, made.run()


def write(path: Path, *lines: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_ids_of_columns_that_do_not_identify_a_row_are_named_with_their_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path / "usage.csv",
        *(f"ada,1,{quantity}" for quantity in (5, 7, 9)),
        "bob,1,5",
        header="user,day,quantity",
    )
    wanted = options(
        mapping={"user": "subject_id"},
        fixed={"metric_key": "m", "subject_type": "user", "timestamp": AT},
        id_from=["user", "day"],
    )
    found = checked(path, wanted)
    assert (found.rows, found.repeats) == (4, 0)
    assert found.conflicts.tolist() == [[2, 3], [3, 2], [4, 2]]
    problems = problems_of(found, ["user", "day"], "line", RULES)
    with pytest.raises(WrongInput, match=r"nothing was sent. 3 rows .* --id-from user,day does not identify a row"):
        require_none(problems, "usage.csv")
    meter, summary = imported(path, wanted)
    assert [(event.subject_id, event.quantity) for event in meter.events] == [("bob", Decimal(5))]
    assert (summary.read, summary.refused) == (4, 3)
    assert "is also the id of line 3, which has different contents" in summary.first_refusals[0]


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        ("quantity", "1", "1.000000001"),
        ("timestamp", AT, "2026-11-22T10:00:00.000001Z"),
        ("metadata", '{"a":1}', '{"a":2}'),
        ("source", "web", ""),
        ("resource_type", "vm", "db"),
        ("resource_id", "1", "2"),
    ],
)
def test_every_field_of_an_event_counts_as_contents(tmp_path: Path, column: str, first: str, second: str) -> None:
    path = tmp_path / "usage.csv"
    row = {"id": "e", "metric_key": "m", "subject_type": "user", "subject_id": "u", "timestamp": AT}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list({**row, column: ""}))
        writer.writeheader()
        writer.writerows({**row, column: value} for value in (first, second))
    assert len(checked(path).conflicts) == 2


def test_the_same_event_written_differently_is_an_exact_repeat(tmp_path: Path) -> None:
    path = write(
        tmp_path / "usage.csv",
        f"e,m,user,u,1,{AT}",
        "e,m,user,u,1.000,2026-11-22T12:00:00+02:00",
        f"e,m,user,other,2,{AT}",
        f"e,other,user,u,2,{AT}",
    )
    found = checked(path)
    assert (found.repeats, len(found.conflicts)) == (1, 0)
    meter, summary = imported(path)
    assert (len(meter.events), summary.refused) == (4, 0)


def test_the_organization_of_the_settings_is_part_of_the_identity(tmp_path: Path) -> None:
    path = write(
        tmp_path / "usage.csv",
        f"e,m,user,u,1,{AT},",
        f"e,m,user,u,2,{AT},acme",
        header=HEADER + ",org_id",
    )
    assert len(checked(path).conflicts) == 0
    assert len(checked(path, org_id="acme").conflicts) == 2


def stamp(**ago: float) -> str:
    return (NOW - timedelta(**ago)).isoformat()


def test_times_that_the_fold_would_reject_are_named_with_rule_and_remedy(tmp_path: Path) -> None:
    times = [
        stamp(days=75),
        stamp(days=35, seconds=-CHECK_MARGIN_SECONDS + 1),
        stamp(days=35, seconds=-CHECK_MARGIN_SECONDS),
        stamp(seconds=-300),
        stamp(seconds=-301),
        stamp(days=-365),
    ]
    path = write(tmp_path / "usage.csv", *(f"e{i},m,user,u,1,{at}" for i, at in enumerate(times)))
    found = checked(path)
    assert found.untimely == {"too_old": 2, "in_future": 2}
    assert [finding.line for finding in found.untimely_shown] == [2, 3, 6, 7]
    (problem,) = problems_of(found, [], "line", RULES)
    assert "would reject 4 rows because of the timestamp (in_future 2, too_old 2): the horizon is 35 days" in problem
    assert "the future tolerance 5 minutes" in problem
    assert "meterfold migrate --horizon-days" in problem
    meter, summary = imported(path)
    # By the time of sending only the row within a minute of the horizon is still in time.
    assert [event.id for event in meter.events] == ["e1", "e2", "e3"]
    assert summary.refused == 3


def test_rows_that_are_no_events_are_not_checked_for_anything_else(tmp_path: Path) -> None:
    path = write(tmp_path / "usage.csv", f"e,m,user,u,much,{AT}", "e,m,user,u,1", f"e,m,user,u,1,{AT}")
    found = checked(path)
    assert (found.rows, found.unusable, found.repeats, len(found.conflicts)) == (3, 2, 0, 0)


def test_a_file_that_changes_between_the_readings_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "usage.csv", f"e,m,user,u,1,{AT}")
    with Source(path, options(), Form()) as source:
        source.open()[0].close()
        write(path, f"e,m,user,u,1,{AT}", f"f,m,user,u,1,{AT}")
        with pytest.raises(WrongInput, match="changed while it was being read; nothing was sent"):
            source.open()


def test_spaces_are_part_of_a_name_until_they_are_stripped(tmp_path: Path) -> None:
    path = write(tmp_path / "usage.csv", f"e1,m,user, ada,1,{AT}", f"e2,m,user,ada ,1,{AT}", f"e3,m,user,ada,1,{AT}")
    found = checked(path)
    assert (found.spaced, found.first_spaced) == (2, 2)
    assert [event.subject_id for event in imported(path)[0].events] == [" ada", "ada ", "ada"]
    assert checked(path, options(strip=True)).spaced == 0
    assert [event.subject_id for event in imported(path, options(strip=True))[0].events] == ["ada"] * 3


@pytest.mark.parametrize(
    ("quantity", "at", "message"),
    [
        ('"1,5"', AT, "column 'amount': quantity '1,5' is not a decimal number; use a decimal point"),
        (" 1", " " + AT, "which --strip removes"),
        ("1", "1795341600", "column 'when': timestamp '1795341600' is not ISO 8601"),
        ("", AT, "column 'amount': quantity is empty"),
    ],
)
def test_a_reason_names_line_column_value_and_remedy(tmp_path: Path, quantity: str, at: str, message: str) -> None:
    path = write(
        tmp_path / "usage.csv",
        f"e,m,user,u,{quantity},{at}",
        header="id,metric_key,subject_type,subject_id,amount,when",
    )
    _, summary = imported(path, options(mapping={"amount": "quantity", "when": "timestamp"}))
    assert summary.first_refusals[0].startswith("line 2: ")
    assert message in summary.first_refusals[0]


def test_bytes_that_are_not_utf8_are_refused_with_how_to_convert_them(tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    path.write_bytes(f"{HEADER}\ne,m,user,J\xfcrgen,1,{AT}\ne2,m,user,Ada,1,{AT}\n".encode("latin-1"))
    meter, summary = imported(path)
    assert [event.subject_id for event in meter.events] == ["Ada"]
    assert "convert it to UTF-8" in summary.first_refusals[0]


METADATA = st.dictionaries(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=4),
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(st.characters(exclude_categories=("Cs", "Cc"))),
    max_size=3,
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "subject_id": st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8),
            "quantity": st.decimals(-(10**19), 10**19, places=9, allow_nan=False, allow_infinity=False),
            "timestamp": st.datetimes(datetime(2026, 11, 1), datetime(2026, 11, 20)),  # noqa: DTZ001
            "metadata": METADATA,
            "seat": st.integers(-(2**63), 2**63 - 1),
        }
    ),
    min_size=1,
    max_size=6,
)
FIXED = {"metric_key": "m", "subject_type": "user"}


def body(meter: TakingMeter) -> list[tuple[Any, ...]]:
    return [(e.id, e.subject_id, e.quantity, e.timestamp, e.metadata) for e in meter.events]


@given(events=EVENTS, unit=st.sampled_from(["us", "ns"]), local=st.booleans())
def test_rejects_of_a_parquet_file_are_imported_again_to_the_digit(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]], unit: str, local: bool
) -> None:
    """Each id occurs twice with other contents, so all rows are refused; the correction deletes the second ones."""
    folder = tmp_path_factory.mktemp("parquet")
    count = len(events)
    form = Form(zone=zone_named("Europe/Berlin"))
    times = [event["timestamp"] for event in events]
    table = pa.table(
        {
            "no": pa.array(range(count), pa.int64()),
            "subject_id": [event["subject_id"] for event in events],
            "quantity": pa.array([event["quantity"] for event in events], pa.decimal128(38, 9)),
            "timestamp": pa.array(times, pa.timestamp("us")).cast(
                pa.timestamp(unit) if local else pa.timestamp(unit, "UTC")
            ),
            "seat": pa.array([event["seat"] for event in events], pa.int64()),
            "comment": ["not imported"] * count,
        }
    )
    wanted = options(
        mapping={"no": "id", "seat": "metadata.seat", "rate": "metadata.rate"}, fixed=FIXED, ignore_others=True
    )
    rate = pa.array([0.1 * number for number in range(count)], pa.float64())
    right = table.append_column("rate", rate)
    pq.write_table(right, folder / "right.parquet")
    expected, _ = imported(folder / "right.parquet", wanted, form)
    wrong = table.append_column("rate", pa.array([-1.5] * count, pa.float64()))
    pq.write_table(pa.concat_tables([right, wrong]), folder / "usage.parquet", row_group_size=3)
    nothing, first = imported(folder / "usage.parquet", wanted, form)
    assert nothing.events == []
    assert first.rejects == folder / "usage.parquet.rejects.parquet"
    rejected = pq.read_table(first.rejects)
    assert rejected.column_names[:2] == ["rejected_line", "rejected_reason"]
    assert "comment" not in rejected.column_names
    pq.write_table(rejected.slice(0, count), first.rejects)
    again, second = imported(first.rejects, wanted, form)
    assert second.refused == 0
    assert body(again) == body(expected)


@given(events=EVENTS, delimiter=st.sampled_from([",", ";", "\t"]))
def test_rejects_of_a_csv_file_are_imported_again_to_the_digit(
    tmp_path_factory: pytest.TempPathFactory, events: list[dict[str, Any]], delimiter: str
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    lines = [
        [
            f"e{number}",
            event["subject_id"],
            f"{event['quantity']:f}",
            event["timestamp"].isoformat(),
            json.dumps(event["metadata"], ensure_ascii=False),
        ]
        for number, event in enumerate(events)
    ]

    def written(name: str, rows: list[list[str]]) -> Path:
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(["id", "subject_id", "quantity", "timestamp", "metadata"])
            writer.writerows(rows)
        return folder / name

    wanted, form = options(fixed=FIXED), Form(delimiter, zone=UTC)
    expected, _ = imported(written("right.csv", lines), wanted, form)
    # Refused for nothing but a conflict with another row of their ids.
    others = [[*row[:3], "2026-11-21T00:00:00", row[4]] for row in lines]
    meter, first = imported(written("usage.csv", lines + others), wanted, form)
    assert meter.events == []
    assert first.rejects == folder / "usage.csv.rejects.csv"
    # The correction deletes the wrong rows; no cell holds a line end.
    kept = first.rejects.read_bytes().split(b"\r\n")[: 1 + len(lines)]
    first.rejects.write_bytes(b"\r\n".join([*kept, b""]))
    again, second = imported(first.rejects, wanted, form)
    assert second.refused == 0
    assert body(again) == body(expected)


def test_rejects_keep_the_kind_of_their_file(tmp_path: Path) -> None:
    path = write(tmp_path / "usage.tsv", f"e\tm\tuser\tu\tmuch\t{AT}", header=HEADER.replace(",", "\t"))
    _, summary = imported(path)
    assert summary.rejects == tmp_path / "usage.tsv.rejects.tsv"
    assert summary.rejects.read_text(encoding="utf-8").startswith("rejected_line\trejected_reason\tid\t")
    with (
        Source(path, options(), Form()) as source,
        pytest.raises(WrongInput, match=r"of a CSV file must end with \.csv"),
    ):
        source.rejects(source.open()[0], tmp_path / "bad.parquet")


def test_a_column_of_integers_is_a_time_only_when_it_says_of_which_unit(tmp_path: Path) -> None:
    path = tmp_path / "usage.parquet"
    fields = {"id": ["a"], "metric_key": ["m"], "subject_type": ["user"], "subject_id": ["u"]}
    pq.write_table(pa.table({**fields, "timestamp": pa.array([1795341600123], pa.int64())}), path)
    with pytest.raises(WrongInput, match="'timestamp' is int64; give its unit: --time-format unix"):
        imported(path)
    meter, _ = imported(path, form=Form(time_format="unix-ms"))
    assert meter.events[0].timestamp == datetime(2026, 11, 22, 10, 0, 0, 123_000, tzinfo=UTC)
    pq.write_table(pa.table({**fields, "timestamp": pa.array([NOW.date()], pa.date32())}), path)
    with pytest.raises(WrongInput, match="--time-format date and --timezone"):
        imported(path)
    meter, _ = imported(path, form=Form(time_format="date", zone=UTC))
    assert meter.events[0].timestamp == datetime(2026, 11, 22, tzinfo=UTC)
