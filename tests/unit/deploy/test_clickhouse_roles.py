"""deploy/clickhouse: each role inserts exactly what its part inserts, tables exist, and no reader of one organization
can read a table without a policy. tests/integration/test_deploy.py lets the engine parse the files."""

from __future__ import annotations

import re
from typing import Final

import pytest

from meterfold_processor.checker import mirror_rows
from meterfold_schemas.topics import MIRRORED
from meterfold_sink.comments import COMMENTS
from support.paths import ROOT

FOLDER: Final = ROOT / "deploy" / "clickhouse"
ROLES: Final = (FOLDER / "roles.sql").read_text(encoding="utf-8")
GRANTS: Final = re.findall(r"^GRANT ([A-Z, ]+) ON ([\w*]+)\.(\S+) TO (\w+);", ROLES, re.MULTILINE)
SOURCES: Final = re.findall(r"^GRANT ([A-Z, ]+) ON ([A-Z0-9]+) TO (\w+);", ROLES, re.MULTILINE)


def granted(role: str, right: str) -> set[str]:
    return {table for rights, _, table, to in GRANTS if to == role and right in rights.split(", ")}


def test_every_table_of_a_grant_exists() -> None:
    named = {table for _, database, table, _ in GRANTS if database == "meterfold" and "*" not in table}
    assert named - COMMENTS.keys() - {"schema_migrations"} == set()
    assert len(GRANTS) + len(SOURCES) == ROLES.count("\nGRANT "), "every grant is read by this test"


def test_the_checker_inserts_what_it_mirrors() -> None:
    assert granted("meterfold_check", "INSERT") == {*mirror_rows.TABLES, "mirror_progress"}
    assert set(MIRRORED.values()) == set(mirror_rows.TABLES)


def test_the_fold_inserts_what_a_flush_inserts() -> None:
    source = (ROOT / "processor" / "meterfold_processor" / "fold" / "flush.py").read_text(encoding="utf-8")
    flushed = set(re.findall(r'"((?:usage|fold)_\w+)"', source))
    assert granted("meterfold_fold", "INSERT") == flushed | {"schema_decisions", "identity_tables"}
    assert {"usage_records", "fold_progress"} <= flushed


@pytest.mark.parametrize(
    ("role", "prefixes"),
    [
        ("meterfold_verify", {"verify_", "closing_"}),
        ("meterfold_service", {"closing_"}),
        ("meterfold_serve", {"verify_", "closing_"}),
    ],
)
def test_tables_that_are_made_for_a_while_can_be_made_and_dropped(role: str, prefixes: set[str]) -> None:
    for right in ("CREATE TABLE", "DROP TABLE", "INSERT"):
        assert {table.removesuffix("*") for table in granted(role, right) if "*" in table} == prefixes
    source = "".join(
        (ROOT / "sink" / "meterfold_sink" / name).read_text() for name in ("proof.py", "closing_recount.py")
    )
    made = set(re.findall(r'(?:name = f"|_NAME: Final = ")([a-z]+)_?', source))
    assert {prefix.rstrip("_") for prefix in prefixes} <= made


def test_closing_a_period_inserts_what_it_may() -> None:
    stored = {"period_closings", "closed_windows", "closed_dimensions"}
    notified = {"notification_tries", "notification_endpoints"}
    service = stored | notified | {"closing_*", "api_tokens"}
    assert granted("meterfold_service", "INSERT") == service | {"schema_decisions"}
    # A server decides about no schema, and offers redriving, tokens, the console and verifications.
    console = {"console_spent", "proofs", "verify_*"}
    assert granted("meterfold_serve", "INSERT") == service | console | {"rejected_redrives", "api_token_uses"}


def test_the_notifier_inserts_what_it_keeps() -> None:
    source = (ROOT / "sink" / "meterfold_sink" / "notification_tries.py").read_text(encoding="utf-8")
    written = set(re.findall(r'insert\("(\w+)"', source))
    assert granted("meterfold_notify", "INSERT") == written
    assert "notification_tries" in written


def test_a_backup_reads_and_writes_the_catalogue_and_nothing_else() -> None:
    own = [(rights, database, table) for rights, database, table, to in GRANTS if to == "meterfold_backup"]
    assert granted("meterfold_backup", "BACKUP") == {"*"}
    assert [table for rights, database, table in own if database == "meterfold" and "INSERT" in rights] == ["backups"]
    assert {database for _, database, _ in own} == {"meterfold", "system", "meterfold_check_*"}
    assert set(SOURCES) == {("READ, WRITE", "S3", "meterfold_backup"), ("READ, WRITE", "DISK", "meterfold_backup")}


def test_only_redriving_stores_what_is_sent_again() -> None:
    users = {to for rights, _, table, to in GRANTS if table == "rejected_redrives" and "INSERT" in rights}
    assert users == {"meterfold_redrive", "meterfold_serve"}
    assert granted("meterfold_redrive", "INSERT") == {"rejected_redrives"}


@pytest.mark.parametrize("role", ["meterfold_read", "meterfold_read_all"])
def test_readers_only_read(role: str) -> None:
    assert {rights for rights, _, _, to in GRANTS if to == role} == {"SELECT"}


def test_a_reader_of_one_organization_sees_no_table_with_organizations_without_a_policy() -> None:
    readable = granted("meterfold_read", "SELECT")
    assert "*" not in readable
    policies = re.compile(r"^CREATE ROW POLICY IF NOT EXISTS \S+ ON meterfold\.(\w+) USING (.+) TO (.+);", re.MULTILINE)
    everyone = {table: (using, to) for table, using, to in policies.findall(ROLES)}
    organization = (FOLDER / "organization.sql").read_text(encoding="utf-8")
    own = {table: (using, to) for table, using, to in policies.findall(organization)}
    stored = {name for name in readable if not re.fullmatch(r"usage_(\w+ly|lifetime|summaries)", name)}
    with_organization = {name for name in stored if "org_id" in COMMENTS[name].columns}
    assert own.keys() == everyone.keys() == with_organization
    assert len(own) == 7
    assert all(found == ("1", "ALL EXCEPT meterfold_read") for found in everyone.values())
    assert all("org_id = 'acme'" in using or "'acme'" in using for using, _ in own.values())
    assert {to for _, to in own.values()} == {"`meterfold-read-acme`"}


def test_every_user_has_a_role_that_exists() -> None:
    created = set(re.findall(r"CREATE ROLE IF NOT EXISTS (\w+)", ROLES))
    for name in ("users.sql", "organization.sql"):
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert set(re.findall(r"^GRANT (\w+) TO", text, re.MULTILINE)) <= created
        assert text.count("CREATE USER") == text.count("DEFAULT ROLE") == text.count("'replace this password'")
