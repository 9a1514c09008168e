"""Migrating a database: again, half way, from the future; and settings that are written once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from meterfold_schemas.errors import Fatal, Retryable
from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink import fold_state, reads
from meterfold_sink import migrate as module
from meterfold_sink.client import Client, connect
from meterfold_sink.errors import code_of
from meterfold_sink.migrate import applied, check_schema, migrate, migrations
from support.sink.database import RULES


def test_migrating_is_safe_to_repeat_and_to_break_off(clickhouse_settings: ClickHouseSettings) -> None:
    class Dying(Client):
        """Dies after some statements."""

        left = 5

        def __init__(self, client: Client) -> None:
            super().__init__(client._connection, client.database)

        def command(self, sql: str, *args: Any, **more: Any) -> None:
            if self.left == 0:
                raise Retryable("the server went away")
            type(self).left -= 1
            super().command(sql, *args, **more)

    with connect(clickhouse_settings) as client:
        with pytest.raises(Fatal, match="has no Meterfold tables: run `meterfold migrate`"):
            check_schema(client)
        with pytest.raises(Retryable):
            migrate(Dying(client), RULES)
        assert applied(client) == {}
        with pytest.raises(Fatal, match=f"is at version 0, but this version of meterfold requires {len(migrations())}"):
            check_schema(client)
        assert migrate(client, RULES) == list(migrations())
        assert migrate(client, RULES) == []
        check_schema(client)

        reads.write_settings_once(client, RULES)
        reads.write_settings_once(client, RULES)
        assert fold_state.read_rules(client) == RULES
        with pytest.raises(Fatal, match="horizon_seconds is stored as '3024000', not '3600'"):
            reads.write_settings_once(client, replace(RULES, horizon_seconds=3600))
        # One that had read them before anything was stored, and writes them now: the first stay.
        client.command("INSERT INTO fold_settings (name, value) VALUES ('horizon_seconds', '3600')")
        assert fold_state.read_rules(client) == RULES

        table = client.value(
            "SELECT create_table_query FROM system.tables WHERE name = 'usage_records' AND database = currentDatabase()"
        )
        assert f"toIntervalSecond({RULES.record_retention_seconds})" in table

        first = migrations()[0]
        client.command(f"INSERT INTO schema_migrations (version, name, checksum) VALUES (1, '{first.name}', 'other')")
        for check in (check_schema, lambda client: migrate(client, RULES)):
            with pytest.raises(Fatal, match="0001_usage was applied with other contents"):
                check(client)
        client.command("INSERT INTO schema_migrations (version, name, checksum) VALUES (999, 'future', '')")
        client.command(
            "ALTER TABLE fold_settings DELETE WHERE name = 'schema_compatible_with' SETTINGS mutations_sync = 2"
        )
        for check in (check_schema, lambda client: migrate(client, RULES)):
            with pytest.raises(Fatal, match="at version 999, and this version of meterfold knows only"):
                check(client)


def test_a_worker_starts_on_newer_tables_that_it_can_work_with(
    clickhouse_settings: ClickHouseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade has migrated, and a worker of the old version that ended for another reason is started again."""
    with connect(clickhouse_settings) as client:
        migrate(client, RULES)
        known = migrations()
        newer = replace(known[-1], version=known[-1].version + 1, name="more", text="")
        monkeypatch.setattr(module, "migrations", lambda: (*known, newer))
        migrate(client, RULES)
        monkeypatch.setattr(module, "migrations", lambda: known)
        check_schema(client)
        with pytest.raises(Fatal, match="use the newer version that migrated it"):
            migrate(client, RULES)

        # The next one changes what old workers write.
        monkeypatch.setattr(module, "migrations", lambda: (*known, newer))
        monkeypatch.setattr(module, "OLDEST_COMPATIBLE", newer.version)
        migrate(client, RULES)
        check_schema(client)
        monkeypatch.setattr(module, "migrations", lambda: known)
        with pytest.raises(Fatal, match="use the newer version that migrated it"):
            check_schema(client)


def test_a_database_that_is_not_there_is_made_only_when_asked(clickhouse_settings: ClickHouseSettings) -> None:
    elsewhere = clickhouse_settings.model_copy(update={"database": clickhouse_settings.database + "_more"})
    with pytest.raises(Fatal, match="meterfold migrate") as refused:
        connect(elsewhere)
    assert code_of(refused.value) == 81
    for _ in range(2):
        with connect(elsewhere, create_database=True) as client:
            assert client.value("SELECT currentDatabase()") == elsewhere.database
    with connect(clickhouse_settings) as client:
        client.command(f"DROP DATABASE {elsewhere.database}")


def test_a_wrong_password_is_fatal_and_never_shown(clickhouse_settings: ClickHouseSettings) -> None:
    wrong = clickhouse_settings.model_copy(update={"password": SecretStr("hunter2-is-wrong")})
    with pytest.raises(Fatal, match="username and password") as refused:
        connect(wrong)
    shown = f"{refused.value!r} {refused.value.__cause__!r}"
    assert "hunter2" not in shown
    assert clickhouse_settings.password.get_secret_value() not in shown


def test_a_server_that_is_away_is_retried(clickhouse_settings: ClickHouseSettings) -> None:
    away = clickhouse_settings.model_copy(update={"url": "http://127.0.0.1:1"})
    with pytest.raises(Retryable, match="could not be reached"):
        connect(away)


def test_a_result_that_breaks_off_is_retried(clickhouse_settings: ClickHouseSettings) -> None:
    """An error after the first rows were sent must not look like a short result."""
    sql = "SELECT number, throwIf(number = 3000000) FROM numbers(4000000)"
    with connect(clickhouse_settings) as client:
        with pytest.raises(Retryable):
            client.query(sql)
        with pytest.raises(Retryable):
            list(client.batches(sql))
