"""Destinations, names, and the order of the parts of a backup."""

from __future__ import annotations

import re

import pytest

from meterfold_schemas.errors import Fatal, InvalidSettings, Retryable
from meterfold_sink.backup_parts import (
    PARTS,
    PROGRESS,
    REST,
    VOUCHING,
    WINDOWS,
    BackupNotFound,
    Destination,
    back_up,
    restore,
)
from meterfold_sink.migrate import migrations, statements, view_statements

VALUES = {"record_retention_seconds": 1}
ALL = [statement for migration in migrations() for statement in statements(migration, VALUES)]


class Server:
    """A client whose server answers with these states, one for each look; it remembers what it was sent."""

    database = "m"

    def __init__(self, *states: tuple[str, str] | None) -> None:
        self.commands: list[str] = []
        self._states = list(states)

    def command(self, sql: str, *_: object) -> None:
        self.commands.append(sql)

    def rows(self, _sql: str, parameters: dict[str, str]) -> list[dict[str, object]]:
        assert f"id = '{parameters['id']}'" in self.commands[-1]
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        return [] if state is None else [{"status": state[0], "error": state[1], "compressed_size": 7}]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterfold_sink.backup_parts.time.sleep", lambda _seconds: None)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("disk:backups", "Disk('backups', 'b1/1-progress')"),
        ("disk:backups/a/b", "Disk('backups', 'a/b/b1/1-progress')"),
        ("s3:collection/prod", "S3(collection, 'prod/b1/1-progress')"),
        ("file:/var/backups", "File('/var/backups/b1/1-progress')"),
    ],
)
def test_a_destination_is_what_clickhouse_takes(text: str, path: str) -> None:
    found = Destination.parse(text)
    assert (str(found), found.path("b1", PROGRESS)) == (text, path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "backups", "disk:", "disk:/etc", "disk:a/../b", "disk:a'b", "s3:a,b", "s3:https://x/y", "file:relative"),
        *("file:/a/../b", "file:/", "disk:a//b", "disk:a/", "disk:a\nb", "azure:a", "disk:ä"),
    ],
)
def test_any_other_destination_is_refused(text: str) -> None:
    with pytest.raises(InvalidSettings, match=r"must be disk:NAME"):
        Destination.parse(text)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "a'b", "a b", "x" * 101])
def test_a_name_that_leaves_its_folder_is_refused(name: str) -> None:
    with pytest.raises(InvalidSettings, match="must have 1 to 100 letters"):
        Destination.parse("disk:backups").path(name, PROGRESS)


def test_progress_comes_first_and_what_it_vouches_for_later() -> None:
    assert PARTS == (PROGRESS, WINDOWS, REST)
    tables = [found[1] for one in ALL if (found := re.match(r"CREATE TABLE IF NOT EXISTS (\w+)", one))]
    assert set(VOUCHING) <= {*tables, "schema_migrations"}
    saying = [table for table in tables if table.endswith(("progress", "closings"))]
    assert set(saying) <= set(VOUCHING), "a table that says how far another one is complete belongs to the first part"


def test_statements_name_every_table_and_the_base() -> None:
    server = Server(("CREATING_BACKUP", ""), ("BACKUP_CREATED", ""))
    destination = Destination.parse("disk:backups")
    assert back_up(server, destination, "b2", REST, ["a", "b`c"], "b1") == 7  # type: ignore[arg-type]
    restored = Server(("RESTORED", ""))
    restore(restored, destination, "b2", REST, "m", "n", ["a"], structure_only=True)  # type: ignore[arg-type]
    restore(restored, destination, "b2", REST, "m", "n")  # type: ignore[arg-type]
    sent = [re.sub(r"id = '\w+'", "id = X", sql) for sql in server.commands + restored.commands]
    assert sent == [
        "BACKUP TABLE `m`.`a`, TABLE `m`.`b\\`c` TO Disk('backups', 'b2/3-rest') SETTINGS id = X, "
        "base_backup = Disk('backups', 'b1/3-rest') ASYNC",
        "RESTORE TABLE `m`.`a` AS `n`.`a` FROM Disk('backups', 'b2/3-rest') SETTINGS id = X, structure_only = 1 ASYNC",
        "RESTORE DATABASE `m` AS `n` FROM Disk('backups', 'b2/3-rest') SETTINGS id = X ASYNC",
    ]


@pytest.mark.parametrize(
    ("states", "kind", "says"),
    [
        ([("BACKUP_FAILED", "Code: 243. DB::Exception: disk is full, Stack trace (x):\n0. ?")], Fatal, "disk is full$"),
        ([("RESTORE_FAILED", "Code: 599. DB::Exception: not found")], BackupNotFound, "List the destination"),
        ([("CREATING_BACKUP", ""), ("BACKUP_CANCELLED", "")], Fatal, "ended with BACKUP_CANCELLED"),
        ([("CREATING_BACKUP", ""), None], Retryable, "the server was restarted, or another replica answers"),
    ],
)
def test_a_failure_says_what_clickhouse_says(
    states: list[tuple[str, str] | None], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        back_up(Server(*states), Destination.parse("disk:b"), "b1", WINDOWS, ["usage_windows"], None)  # type: ignore[arg-type]


def test_views_are_created_again_by_the_migrations() -> None:
    views = [statement for migration in migrations() for statement in view_statements(migration)]
    assert views == [statement for statement in ALL if statement.startswith("CREATE OR REPLACE VIEW")]
    assert len(views) > 5
