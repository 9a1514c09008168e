"""Kinds of files: compression by the first bytes, JSON in its forms, and what is damaged."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing import mapping_file
from meterfold_cli.importing.file_kinds import kind_of
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.rejects import json_text
from meterfold_cli.importing.run import Import, Summary
from meterfold_cli.importing.source import Form, Source
from meterfold_schemas.usage import UsageRecorded
from support.played_meter import PlayedMeter

AT = "2026-11-22T10:00:00Z"
HEADER = "id,metric_key,subject_type,subject_id,quantity,timestamp\n"
ROWS = HEADER + "".join(f"e{number},m,user,u,{number}.5,{AT}\n" for number in range(3000))


def zstd(text: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(text, asbytes=True)
    return packed


def in_parts(pack: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda text: pack(text[:1000]) + pack(text[1000:])


def imported(path: Path, **options: Any) -> tuple[list[UsageRecorded], Summary]:
    wanted = Options(**{"mapping": {}, "fixed": {}, "id_from": [], "ignore_others": False, **options})
    meter = PlayedMeter()
    with Source(path, wanted, Form()) as source:
        rows, plan = source.open()
        silent: Any = lambda *_, **__: None  # noqa: E731
        made = Import(rows, plan, meter, source.rejects(rows, None), silent)  # type: ignore[arg-type]
        return meter.events, made.run()


@pytest.mark.parametrize("pack", [gzip.compress, zstd, in_parts(gzip.compress), in_parts(zstd)])
@pytest.mark.parametrize("name", ["usage.csv.gz", "usage.csv.zst", "usage.csv", "usage.gz"])
def test_compression_is_known_by_the_first_bytes(tmp_path: Path, pack: Callable[[bytes], bytes], name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pack(ROWS.encode()))
    events, summary = imported(path)
    assert summary.well
    assert (len(events), events[-1].quantity) == (3000, Decimal("2999.5"))


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_truncated_file_is_refused_where_it_ends(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "usage.csv.gz"
    rows = HEADER + "".join(f"{hash(str(number))},m,user,u,1,{AT}\n" for number in range(20_000))
    packed = pack(rows.encode())
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(WrongInput, match=r"is damaged (after line \d+|and cannot be decompressed)"):
        imported(path)


def test_the_rejects_of_a_compressed_file_are_plain(tmp_path: Path) -> None:
    path = tmp_path / "usage.tsv.gz"
    path.write_bytes(gzip.compress((HEADER + f"e,m,user,u,much,{AT}\n").replace(",", "\t").encode()))
    _, summary = imported(path)
    assert summary.rejects == tmp_path / "usage.tsv.gz.rejects.tsv"
    assert summary.rejects.read_text(encoding="utf-8").splitlines()[1].startswith("2\t")


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"e{number}",
        "metric_key": "m",
        "subject_type": "user",
        "subject_id": number,
        "quantity": 1.5,
        "timestamp": AT,
        **changes,
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("usage.jsonl", "{}\n{}\n"),
        ("usage.ndjson", "\n{}\n\n{}"),
        ("usage.json", "{}\n{}\n"),
        ("usage.json", "[{},\n{}]"),
        ("usage.gz", "[{}, {}]"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, zstd])
def test_json_is_read_in_its_forms(tmp_path: Path, name: str, text: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / name
    rows = [json.dumps(row(number, metadata={"n": number})) for number in (1, 2)]
    content = text.replace("{}", "%s") % tuple(rows)
    if name.endswith(".gz"):
        pack = gzip.compress
    path.write_bytes(pack(content.encode()))
    events, summary = imported(path)
    assert [(e.id, e.subject_id, e.quantity, e.metadata) for e in events] == [
        ("e1", "1", Decimal("1.5"), '{"n":1}'),
        ("e2", "2", Decimal("1.5"), '{"n":2}'),
    ]
    assert summary.well


def test_numbers_of_json_keep_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    text = json.dumps(row(1)).replace("1.5", "12345678901234567890.123456789")
    path.write_text(f"{text}\n{json.dumps(row(2)).replace('1.5', '1E-9')}\n", encoding="utf-8")
    events, _ = imported(path)
    assert [e.quantity for e in events] == [Decimal("12345678901234567890.123456789"), Decimal("1e-9")]


def test_bad_rows_of_json_have_their_lines_and_can_be_imported_again(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    lines = [
        json.dumps(row(1)),
        '{"id": ',
        json.dumps(row(3, quantity="much")).replace('"quantity"', '"price": 1.10, "quantity"'),
        "[1]",
        json.dumps(row(5, timestamp=True)),
        json.dumps(row(6, subject_id={"a": 1})),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    events, summary = imported(path, mapping={"price": "metadata.price"})
    assert [event.id for event in events] == ["e1"]
    assert [text.partition(":")[0] for text in summary.first_refusals] == [f"line {n}" for n in (2, 3, 4, 5, 6)]
    assert "not valid JSON" in summary.first_refusals[0]
    assert "quantity 'much' is not a decimal number" in summary.first_refusals[1]
    assert "not a JSON object" in summary.first_refusals[2]
    assert "timestamp True is not text or a number" in summary.first_refusals[3]
    assert "must be text or an integer" in summary.first_refusals[4]
    assert summary.rejects == tmp_path / "usage.jsonl.rejects.jsonl"
    rejected = summary.rejects.read_text(encoding="utf-8").splitlines()
    assert '"price":1.10' in rejected[1]
    summary.rejects.write_text(rejected[1].replace('"much"', "7.25") + "\n", encoding="utf-8")
    (event,), again = imported(summary.rejects, mapping={"price": "metadata.price"})
    assert again.well
    assert (event.id, event.quantity, event.metadata) == ("e3", Decimal("7.25"), '{"price":1.1}')


def test_names_that_appear_later_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    rows = [row(number) for number in range(1001)] + [row(1001, extra=1)]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    events, summary = imported(path)
    assert len(events) == 1001
    assert "line 1002: unknown name 'extra': map it with --map, or use --ignore-others" in summary.first_refusals[0]
    assert len(imported(path, ignore_others=True)[0]) == 1002


def test_an_optional_column_may_appear_in_any_row(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    rows = [row(number) for number in range(1001)] + [{**row(1001), "region": "eu"}]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    base = mapping_file.parse(
        """
id = "id"
timestamp = "timestamp"
metric = "metric_key"
subjects = [{ type = "user", column = "subject_id" }]
[metadata]
region = { column = "region", optional = true }
""",
        "m.toml",
    )
    events, _ = imported(path, base=base)
    assert [event.metadata for event in events[-2:]] == [None, '{"region":"eu"}']


def test_a_name_with_dots_is_nested(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    nested = {**row(1), "usage": {"tokens": {"in": 3}}, "a.b": "flat"}
    del nested["quantity"]
    path.write_text(json.dumps(nested) + "\n", encoding="utf-8")
    (event,), _ = imported(path, mapping={"usage.tokens.in": "quantity", "a.b": "metadata.ab"})
    assert (event.quantity, event.metadata) == (Decimal(3), '{"ab":"flat"}')


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("usage.json", b'{"a": ', "usage.json is not valid JSON"),
        ("usage.jsonl", b"1\n2\n", "has no JSON objects; each row must be one"),
        ("usage.xlsx", b"", r"not a kind of file that can be imported; give .csv, .tsv, .jsonl"),
        ("usage.parquet.gz", gzip.compress(b"PAR1", mtime=0), "is Parquet compressed with gzip; decompress it first"),
        ("gone.csv", None, "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(WrongInput, match=message):
        imported(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"id,user\n1,2\n", "csv"),
        (b'{"id": 1}\n{"id": 2}\n', "jsonl"),
        (b'\xef\xbb\xbf [{"id": 1}]', "json"),
        (zstd(b'{"id": 1}\n{"id": 2}\n'), "jsonl"),
        (b"PAR1....", "parquet"),
    ],
)
def test_standard_input_is_known_by_its_text(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "stdin").write_bytes(content)
    assert kind_of(tmp_path / "stdin", "standard input", by_name=False).format == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_rejects_of_json_have_the_values_of_the_original(value: Any) -> None:
    assert json.loads(json_text(value)) == value
