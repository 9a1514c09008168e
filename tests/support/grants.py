"""ClickHouse's grants of deploy/clickhouse/roles.sql, applied to the statements of a client: the engine of the local
stack has one user only."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import pyarrow as pa

from meterfold_schemas.errors import Fatal
from meterfold_service import Metering
from meterfold_sink.arrow_reader import ArrowReader
from meterfold_sink.client import Client
from meterfold_sink.small import Parameter
from support.paths import ROOT

__all__ = ["limit", "missing_grant", "role_of"]

_ROLES: Final = ROOT / "deploy" / "clickhouse" / "roles.sql"
_GRANT: Final = re.compile(r"^GRANT ([A-Z, ]+) ON ([\w*]+)\.(\S+) TO (\w+);", re.MULTILINE)
#: What every user may read.
_OPEN: Final = {"numbers", "one", "settings"}
_CHANGES: Final = re.compile(
    r"\s*(?:(INSERT) INTO (?:TABLE )?|(CREATE TABLE|DROP TABLE|ALTER TABLE|CREATE VIEW|TRUNCATE)"
    r" (?:IF (?:NOT )?EXISTS )?)`?(\w+)`?",
    re.IGNORECASE,
)
_READS: Final = re.compile(r"[\s(]*(SELECT|WITH|EXPLAIN|DESCRIBE|EXISTS)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Role:
    """`grants`: (right, database, pattern of the table)."""

    name: str
    grants: frozenset[tuple[str, str, str]]

    def may(self, right: str, database: str, table: str) -> bool:
        return any(
            (right, database) == (granted, where) and fnmatchcase(table, pattern)
            for granted, where, pattern in self.grants
        )


def role_of(name: str) -> Role:
    """A role of roles.sql."""
    found = _GRANT.findall(_ROLES.read_text(encoding="utf-8"))
    grants = {(right, base, table) for rights, base, table, to in found if to == name for right in rights.split(", ")}
    assert grants, f"roles.sql has no role {name}"
    return Role(name, frozenset(grants))


def missing_grant(role: Role, sql: str) -> str | None:
    """The grant that a statement needs and `role` lacks, as ClickHouse names it."""
    for table in re.findall(r"\bsystem\.(\w+)", sql):
        if table not in _OPEN and not role.may("SELECT", "system", table):
            return f"SELECT ON system.{table}"
    if (change := _CHANGES.match(sql)) is not None:
        right = (change[1] or change[2]).upper()
        return None if role.may(right, "meterfold", change[3]) else f"{right} ON meterfold.{change[3]}"
    if _READS.match(sql):
        return None if role.may("SELECT", "meterfold", "*") else "SELECT ON meterfold.*"
    return sql.split("(")[0][:60]


class _Limited(Client):
    """A client that refuses what its role may not do."""

    def __init__(self, client: Client, role: Role) -> None:
        super().__init__(client._connection, client.database)
        self._role = role

    def command(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        self._check(sql)
        super().command(sql, parameters, settings)

    def query(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> pa.Table:
        self._check(sql)
        return super().query(sql, parameters, settings)

    def reader(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> ArrowReader:
        self._check(sql)
        return super().reader(sql, parameters, settings)

    def rows(
        self, sql: str, parameters: Mapping[str, Parameter] | None = None, settings: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        self._check(sql)
        return super().rows(sql, parameters, settings)

    def insert_stream(self, table: str, columns: list[str], body: memoryview, settings: Mapping[str, Any]) -> None:
        self._check(f"INSERT INTO {table}")
        super().insert_stream(table, columns, body, settings)

    def _check(self, sql: str) -> None:
        if (grant := missing_grant(self._role, sql)) is not None:
            raise Fatal(
                f"{self._role.name}: Not enough privileges. To execute this query, it's necessary to have {grant}"
            )


def limit(metering: Metering, role: str) -> Metering:
    """Let every connection that `metering` opens from now on have the rights of `role` only."""
    rights = role_of(role)
    for pool in (metering.clients, metering._recounting):
        pool._open = _limited(pool._open, rights)
    return metering


def _limited(opened: Callable[[], Client], role: Role) -> Callable[[], Client]:
    return lambda: _Limited(opened(), role)
