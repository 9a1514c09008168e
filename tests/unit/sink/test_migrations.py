"""The migration files themselves, without a server."""

from __future__ import annotations

import re

import pytest

from meterfold_schemas.errors import Fatal
from meterfold_sink import migrate
from meterfold_sink.migrate import OLDEST_COMPATIBLE, Migration, migrations, statements

VALUES = {"record_retention_seconds": 8_640_000}
ALL = [statement for migration in migrations() for statement in statements(migration, VALUES)]
TABLES = {match[1]: s for s in ALL if (match := re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", s))}


def test_numbers_are_without_gaps() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_every_statement_may_be_repeated() -> None:
    assert ALL
    for statement in ALL:
        repeatable = (
            r"CREATE TABLE IF NOT EXISTS |CREATE OR REPLACE VIEW |"
            r"ALTER TABLE \w+ (ADD (COLUMN|INDEX) IF NOT EXISTS|MODIFY COLUMN IF EXISTS|MATERIALIZE INDEX) "
        )
        assert re.match(repeatable, statement), statement[:80]


def test_migrations_that_older_workers_work_with_only_add() -> None:
    assert migrations()[-1].version >= OLDEST_COMPATIBLE
    # An index changes neither what is written nor what is read.
    added = (
        r"CREATE TABLE IF NOT EXISTS |CREATE OR REPLACE VIEW |"
        r"ALTER TABLE \w+ (ADD (COLUMN|INDEX) IF NOT EXISTS|MATERIALIZE INDEX) "
    )
    for migration in migrations()[OLDEST_COMPATIBLE:]:
        for statement in statements(migration, VALUES):
            assert re.match(added, statement), f"{migration.name}: raise OLDEST_COMPATIBLE to {migration.version}"


def test_every_place_is_filled() -> None:
    for statement in ALL:
        assert not re.search(r"\{[a-z_]+\}", statement)
    assert "toIntervalSecond(8640000)" in TABLES["usage_records"]


def test_a_place_without_a_value_is_refused() -> None:
    with pytest.raises(Fatal, match=r"unknown value [{]nobody_knows[}]"):
        statements(Migration(9, "x", "SELECT {nobody_knows};"), VALUES)


def test_comments_and_semicolons_in_lines_do_not_split() -> None:
    text = "-- a; comment;\nSELECT 'a;b'\n  -- another;\n, 2;\n\nSELECT 3;\n"
    assert [" ".join(s.split()) for s in statements(Migration(9, "x", text), {})] == ["SELECT 'a;b' , 2", "SELECT 3"]


def test_the_checksum_is_of_the_file_not_of_its_values() -> None:
    first = migrations()[0]
    assert statements(first, {"record_retention_seconds": 1}) != statements(first, {"record_retention_seconds": 2})
    assert first.checksum != Migration(1, first.name, first.text + " ").checksum


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_table_replaces_rows_and_reaches_the_disk(table: str) -> None:
    assert "ReplacingMergeTree" in TABLES[table]
    assert "fsync_after_insert = 1, fsync_part_directory = 1" in TABLES[table]


@pytest.mark.parametrize(
    "table", ["usage_records", "usage_duplicates", "usage_rejected", "usage_windows", "fold_progress"]
)
def test_history_11_merges_of_what_the_fold_writes_reach_the_disk(table: str) -> None:
    assert "min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1" in TABLES[table]


@pytest.mark.parametrize("table", sorted(TABLES))
def test_history_38_a_partition_key_is_a_function_of_the_sort_key(table: str) -> None:
    partitioned = re.search(r"PARTITION BY (.+)", TABLES[table])
    ordered = re.search(r"ORDER BY \(?([\w, ]+)\)?", TABLES[table])
    assert ordered is not None
    if partitioned:
        used = re.findall(r"\b[a-z_]+\b(?!\()", partitioned[1])
        assert used
        assert set(used) <= set(ordered[1].split(", "))


def test_a_gap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    known = migrations()
    monkeypatch.setattr(migrate, "_FILE", re.compile(r"(\d*[02-9])_([a-z0-9_]+)\.sql"))
    migrations.cache_clear()
    try:
        with pytest.raises(Fatal, match="lacks migrations"):
            migrations()
    finally:
        monkeypatch.undo()
        migrations.cache_clear()
    assert migrations() == known
