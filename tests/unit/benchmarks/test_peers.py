"""The results of `make bench-peers`: the file, the medians, the table, the picture and the page."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from support.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))

from peers import page, windows
from peers.contestants import PEERS, Runtime, chosen
from peers.outcomes import Outcome, Results, medians
from peers.picture import draw
from peers.tables import HEADERS, markdown, rows

CPU = {"peer": 6.0, "ClickHouse": 3.0, "Kafka": 1.0}
OURS = Outcome(
    "meterfold", "avro", "dense", 1_000_000, 10.0, CPU, 500_000_000, 1.0, "", "2 cores, X, load 1.0", "2026-11-29"
)
FLINK = replace(OURS, peer="flink", seconds=40.0, cpu={"peer": 40.0, "ClickHouse": 5.0, "Kafka": 5.0})
FAILED = replace(OURS, peer="bytewax", seconds=0.0, cpu={}, error="it ended with status 1\n--- end of the log")


def test_an_interrupted_benchmark_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    results = Results(path)
    results.add(OURS)
    results.add(FAILED)
    again = Results(path)
    assert again.outcomes == [OURS, FAILED]
    assert again.missing(OURS.case, 3) == 2
    assert again.missing(FAILED.case, 1) == 1, "a failure does not count"
    assert again.missing(replace(OURS, events=10).case, 1) == 1


def test_a_success_replaces_failures_of_its_case(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    for outcome in (FAILED, FLINK, replace(FAILED, error="")):
        results.add(outcome)
    assert [one.peer for one in results.outcomes] == ["flink", "bytewax"]
    assert not any(one.error for one in results.outcomes)


def test_measuring_again_forgets_only_those_cases(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json")
    results.add(OURS)
    results.add(FLINK)
    results.forget([FLINK.case])
    assert results.outcomes == [OURS]


def test_medians_are_of_the_successful_runs() -> None:
    runs = [replace(OURS, seconds=seconds, memory=int(seconds)) for seconds in (10.0, 50.0, 20.0)]
    ours, failed = medians([*runs, replace(OURS, error="killed"), FAILED])
    assert (ours.rate, ours.runs, ours.memory, ours.failed) == (50_000.0, 3, 20, "")
    assert ours.total_cpu == 10.0
    assert (failed.runs, failed.failed) == (0, FAILED.error)


def test_the_table_compares_with_meterfold_on_the_same_format() -> None:
    found = rows(medians([FAILED, FLINK, replace(FLINK, format="json"), OURS]))
    assert found == [
        ["Meterfold", "Avro", "100,000", "", "6.0", "3.0", "1.0", "10.0", "", "500", "1"],
        ["Bytewax", "Avro", "failed", *[""] * (len(HEADERS) - 3), "0"],
        ["Flink", "Avro", "25,000", "4.00", "40.0", "5.0", "5.0", "50.0", "5.00", "500", "1"],
        ["Flink", "JSON", "25,000", "", "40.0", "5.0", "5.0", "50.0", "", "500", "1"],
    ]
    lines = markdown("dense", medians([OURS, FLINK])).splitlines()
    assert {line.count("|") for line in lines} == {len(HEADERS) + 2}


def test_the_picture_is_xml_with_bars_as_long_as_the_rates() -> None:
    root = ElementTree.fromstring(draw(medians([OURS, FLINK, FAILED, replace(FLINK, backlog="sparse")])))  # noqa: S314
    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths == [pytest.approx(4 * widths[1], rel=0.01), widths[1], widths[1]]
    assert ["ours" in bar.attrib["class"] for bar in bars] == [True, False, False]
    texts = [text.text for text in root.findall("{http://www.w3.org/2000/svg}text")]
    assert {"Bytewax, Avro", "failed", "100,000/s, 10.0 µs", "dense", "sparse"} <= set(texts)
    assert "prefers-color-scheme: dark" in draw(medians([OURS]))


def test_the_page_is_filled_between_its_marks(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    (tmp_path / "peers.md").write_text(text, encoding="utf-8")
    outcomes = [OURS, FLINK, replace(FLINK, measured_at="2026-11-30")]
    for _ in range(2):  # a second time replaces the first
        page.write(outcomes, medians(outcomes), tmp_path)
        written = (tmp_path / "peers.md").read_text(encoding="utf-8")
    assert written.partition(page.BEGIN)[0] == text.partition(page.BEGIN)[0]
    assert written.partition(page.END)[2] == text.partition(page.END)[2]
    assert "Measured on 2026-11-29 to 2026-11-30 with 1,000,000 events per backlog" in written
    assert "on: 2 cores, X." in written
    assert (tmp_path / "peers.svg").read_text(encoding="utf-8").startswith("<svg")
    (tmp_path / "peers.md").write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="must each be there once"):
        page.write(outcomes, medians(outcomes), tmp_path)


def test_windows_are_compared_to_the_digit() -> None:
    names = ["key", "period_type", "period_start", "count", "sum", "min", "max"]
    expected = pl.DataFrame([(1, "hourly", 0, 2, 30, 10, 20), (2, "hourly", 0, 1, 5, 5, 5)], schema=names, orient="row")
    assert windows.differences(expected.reverse(), expected) == ""
    assert "1 windows are missing" in windows.differences(expected.head(1), expected)
    wrong = expected.with_columns(max=pl.col("max") + (pl.col("key") == 2))
    assert "1 windows are missing or differ, 1 are not" in windows.differences(wrong, expected)
    extra = pl.concat([expected, expected.with_columns(key=pl.lit(None, pl.Int64)).head(1)])
    assert "1 are not the oracle's" in windows.differences(extra, expected)
    twice = pl.concat([expected, expected.head(1)])
    assert windows.differences(twice, expected) != ""


def test_every_peer_has_its_source_and_is_described() -> None:
    text = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    for peer in PEERS:
        assert f"| {peer.title} |" in text, peer.title
        for program in peer.programs:
            name = program if peer.runtime is Runtime.PYTHON else f"{program}.java"
            assert (peer.folder / name).is_file()
        pinned = {Runtime.PYTHON: "requirements.txt", Runtime.JAVA: "jars.lock.toml"}.get(peer.runtime)
        assert pinned is None or (peer.folder / pinned).is_file()
    with pytest.raises(SystemExit, match="unknown peer spark"):
        chosen(["spark"])
