"""docs/importing.md: its tables are those of the models and presets, its mapping is valid, and its commands run."""

from __future__ import annotations

import gzip
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from meterfold_cli import main
from meterfold_cli.importing import mapping as model
from meterfold_cli.importing import mapping_file
from support import import_files as files
from support.paths import ROOT

PAGE = (ROOT / "docs" / "importing.md").read_text(encoding="utf-8")
MAPPING = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]
TABLES: dict[str, Any] = {
    "timestamp": model.Timestamp,
    "subjects": model.SubjectChoice,
    "metric": model.Metric,
    "quantity": model.Quantity,
    "measures": model.Measure,
    "fields": model.Value,
    "metadata": model.MetadataValue,
}


def keys(part: Any) -> set[str]:
    return {field.alias or name for name, field in part.model_fields.items()}


def test_every_key_of_a_mapping_is_described() -> None:
    rows = re.search(r"\| key \| meaning \|\n\|---\|---\|\n(.*?)\n\n", PAGE, re.DOTALL)
    assert rows is not None
    assert set(re.findall(r"^\| `(\w+)` \|", rows[1], re.MULTILINE)) == keys(model.Mapping)


@pytest.mark.parametrize("table", TABLES)
def test_every_key_of_a_table_is_described(table: str) -> None:
    rows = re.findall(rf"^\| `{table}` \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(keys(TABLES[table]))


def test_the_fields_are_those_of_the_schema() -> None:
    row = re.search(r"^\| `fields` \| (.*?): a table", PAGE, re.MULTILINE)
    assert row is not None
    assert set(re.findall(r"`(\w+)`", row[1])) == set(model.VALUES)


def test_every_preset_is_described() -> None:
    rows = re.search(r"\| preset \| file \|.*?\n\n", PAGE, re.DOTALL)
    assert rows is not None
    assert {*mapping_file.presets()} == {*re.findall(r"^\| `([\w.-]+)` \|", rows[0], re.MULTILINE)}


def commands() -> list[str]:
    blocks = [text for kind, text in re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) if not kind]
    return [
        line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.startswith("meterfold")
    ]


def written(folder: Path) -> None:
    now = datetime.now(UTC)
    rows = files.csv_text(files.FOCUS_COLUMNS, files.focus_rows(now))
    (folder / "focus.csv.gz").write_bytes(gzip.compress(rows.encode()))
    (folder / "spend.jsonl").write_text(files.json_lines(files.spend_rows(now)), encoding="utf-8")
    (folder / "traffic.csv").write_text(
        "account,service,meter,amount,day,labels,region,kind,other\n"
        'a1,Object Storage,GB Month (Standard),1.5,2026-11-24,"{""env"":""prod""}",eu,Usage,x\n'
        "a1,Tax,,,2026-11-24,,,Tax,x\n",
        encoding="utf-8",
    )
    (folder / "tokens.csv").write_text("request,who,at,n_in,n_out\nr1,ada,1795341600,1.5,2\n", encoding="utf-8")
    (folder / "gateway.toml").write_text(MAPPING, encoding="utf-8")
    gateway = "request,at,account,meter,kind,amount,unit,deployment,region,labels\n" + (
        "r1,1795341600000,c1,Input Tokens,Usage,2,1K tokens,d1,eu,\nr2,1795341600000,c1,Other,Usage,7,tokens,d1,eu,\n"
    )
    (folder / "big.csv.gz").write_bytes(gzip.compress(gateway.encode()))


def test_the_commands_of_the_page_do_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    shown = []
    for command in commands():
        words = [word for word in shlex.split(command)[1:] if word not in ("--resume", "--dry-run")]
        more = () if "--write-mapping" in words else ("--dry-run", "--kafka-only")
        assert main.run([*words, *more]) == 0, (command, capsys.readouterr())
        shown.append(re.sub(r" +", " ", capsys.readouterr().out))
    assert len(shown) == 9
    focus, traffic, tokens, gateway = shown[0], shown[5], shown[6], shown[7]
    assert "amazon_elastic_compute_cloud.compute_hours 2 24.000277778" in focus
    assert "object_storage.gb_month_standard 1 1.5" in traffic
    assert 'metadata={"env": "prod", "region": "eu"}' in traffic
    assert "1 left out by the mapping" in traffic
    assert "llm.input 1 1500" in tokens
    assert "llm.output 1 2000" in tokens
    assert "llm.input 1 2000" in gateway
    assert "gateway.other 1 7" in gateway


def test_every_option_of_the_page_exists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["import", "--help"]) == 0
    helped = capsys.readouterr().out
    assert {option for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE) if option not in helped} == set()
