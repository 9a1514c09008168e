"""An optional field in a second version of UsageRecorded, made here and not released: what has to change for it.

A copy of the packages gets the schema, the migration and the lines where people write the field by name. Everything
else takes it from the schema: the encoder, the SDK, the decoder, the rules, the records, the import and the queries.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.migrate import migrations
from support.paths import ROOT, TESTS

PACKAGES = ("schemas", "producer_sdk", "sink", "processor", "service", "deploy")
AVRO = Path("schemas/meterfold_schemas/avro")

#: file -> what is written for the field, and behind which line
BY_NAME = {
    Path("schemas/meterfold_schemas/usage.py"): (
        "    metadata: str | None = None\n",
        "    region: str | None = None\n",
    ),
    Path("producer_sdk/meterfold/events.py"): (
        "    metadata: Mapping[str, Any] | str | None\n",
        "    region: str | None\n",
    ),
}


def test_an_optional_field_is_a_schema_a_migration_and_two_files(
    tmp_path: Path, clickhouse_settings: ClickHouseSettings
) -> None:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    add_field(tmp_path)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in (*(tmp_path / name for name in PACKAGES), TESTS)),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run([sys.executable, "-m", "meterfold_schemas.derive"], env=environment, check=True, timeout=300)
    changed = {
        path.relative_to(tmp_path)
        for path in tmp_path.rglob("*")
        if path.is_file() and not is_same(path, ROOT / path.relative_to(tmp_path))
    }
    # `python -m meterfold_schemas.derive` writes the others.
    by_hand = {path for path in changed if path.suffix not in (".json", ".jsonl") and path.parent != AVRO / "plain"}
    assert {path.suffix for path in by_hand - BY_NAME.keys()} == {".avsc", ".sql"}
    assert len(by_hand) <= 4
    subprocess.run(
        [sys.executable, "-m", "support.sink.new_field"],
        env=environment,
        input=json.dumps(
            {**clickhouse_settings.model_dump(), "password": clickhouse_settings.password.get_secret_value()}
        ),
        text=True,
        check=True,
        timeout=300,
    )


def add_field(tree: Path) -> None:
    schema = json.loads((tree / AVRO / "usage_recorded.v1.avsc").read_text(encoding="utf-8"))
    schema["fields"].append(
        {"name": "region", "type": ["null", "string"], "default": None, "doc": "Where the usage happened."}
    )
    (tree / AVRO / "usage_recorded.v2.avsc").write_text(json.dumps(schema), encoding="utf-8")
    number = migrations()[-1].version + 1
    (tree / f"sink/meterfold_sink/migrations/{number:04d}_region.sql").write_text(
        "ALTER TABLE usage_records ADD COLUMN IF NOT EXISTS region Nullable(String);\n", encoding="utf-8"
    )
    for path, (line, more) in BY_NAME.items():
        text = (tree / path).read_text(encoding="utf-8")
        assert text.count(line) == 1, path
        (tree / path).write_text(text.replace(line, line + more), encoding="utf-8")


def is_same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()
