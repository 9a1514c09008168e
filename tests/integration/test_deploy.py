"""The files of deploy/ against the real servers: the SQL of the dashboards, and our processes as the files start
them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from meterfold import Meter
from meterfold_local.stack import LocalStack
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_sink.client import connect
from support import eventually
from support.cli import meterfold, running
from support.dashboards import DASHBOARDS, load, statements
from support.deployed import compose, interpolated
from support.paths import ROOT
from support.probes import Probes

pytestmark = pytest.mark.stack

DEADLINE = 90.0


def test_clickhouse_runs_every_statement_of_the_dashboards(
    tables: None, clickhouse_settings: ClickHouseSettings
) -> None:
    found = [sql for path in DASHBOARDS for sql in statements(load(path)).values()]
    assert len(found) >= 9
    client = connect(clickhouse_settings)
    for sql in found:
        client.query(sql)
    client.close()


def test_the_engine_parses_the_statements_that_create_roles_and_users(clickhouse_settings: ClickHouseSettings) -> None:
    """The local server has one user, so it can parse these statements and not run them."""
    client = connect(clickhouse_settings)
    kinds, roles = set(), set[str]()
    for path in sorted((ROOT / "deploy" / "clickhouse").glob("*.sql")):
        text = re.sub(r"^--.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for statement in filter(None, map(str.strip, text.split(";"))):
            assert client.value("SELECT formatQuery({sql:String})", {"sql": statement})
            kinds.add(" ".join(statement.split()[:2]))
            roles |= {statement.split()[-1]} if statement.startswith("CREATE ROLE") else set()
    assert {"CREATE ROLE", "CREATE USER", "CREATE ROW", "GRANT SELECT", "GRANT INSERT"} <= kinds
    assert {"meterfold_fold", "meterfold_check", "meterfold_notify", "meterfold_service"} <= roles
    with pytest.raises(MeterfoldError):
        client.value("SELECT formatQuery({sql:String})", {"sql": "GRANT READING ON a.b TO c"})
    client.close()


def test_processes_run_as_the_compose_file_starts_them(
    stack: LocalStack, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, tmp_path: Path
) -> None:
    """Command and environment are those of the file. Replaced are the addresses, and what goes with the test's servers:
    credentials, the topic prefix, the database."""
    services = compose("compose.yaml")["services"]
    places = {
        "METERFOLD_BOOTSTRAP_SERVERS": kafka_settings.bootstrap_servers,
        "METERFOLD_TOPIC_PREFIX": kafka_settings.topic_prefix,
        **{f"METERFOLD_KAFKA_{name.upper().replace('.', '_')}": v for name, v in kafka_settings.librdkafka.items()},
        "METERFOLD_CLICKHOUSE_URL": clickhouse_settings.url,
        "METERFOLD_CLICKHOUSE_DATABASE": clickhouse_settings.database,
        "METERFOLD_CLICKHOUSE_USERNAME": clickhouse_settings.username,
        "METERFOLD_HEALTH_ADDRESS": "127.0.0.1:0",
    }
    generated = dict.fromkeys(("CLICKHOUSE_PASSWORD",), clickhouse_settings.password.get_secret_value())

    def environment(service: str) -> dict[str, str]:
        written = {name: interpolated(value, generated) for name, value in services[service]["environment"].items()}
        assert written.keys() >= places.keys() - {
            name for name in places if name.startswith(("METERFOLD_KAFKA_", "METERFOLD_TOPIC_"))
        }
        return {**stack.environment(), **written, **places}

    migrated = meterfold(*services["migrate"]["command"], env=environment("migrate"))
    assert migrated.returncode == 0, migrated.stderr
    fold, *options = services["fold"]["command"]
    check, *more = services["check"]["command"]
    with (
        running(fold, *options, env=environment("fold"), folder=tmp_path, ready="fold: ready") as folding,
        running(check, *more, env=environment("check"), folder=tmp_path, ready="check: ready") as checking,
    ):
        with Meter(**kafka_settings.model_dump()) as meter:
            for number in range(20):
                meter.record("api.calls", ("user", f"u{number}"))
        probes = [Probes.of(folding), Probes.of(checking)]
        eventually(lambda: probes[0].metrics().total("fold_counted_events_total") == 20, DEADLINE, "all counted")
        eventually(lambda: probes[1].metrics().total("checker_consumed_windows_total") >= 20, DEADLINE, "all judged")
        for probe in probes:
            probe.wait_ready()
            assert health(probe.url.removeprefix("http://")) == 0
        assert folding.terminate(20) == 0
        assert health(probes[0].url.removeprefix("http://")) == 1, "nothing answers any more"
        assert checking.terminate(20) == 0


def health(address: str) -> int:
    """The exit status of the image's health check."""
    script = ROOT / "deploy" / "docker" / "healthcheck.py"
    done = subprocess.run(
        [sys.executable, script],
        env={"METERFOLD_HEALTH_ADDRESS": address},
        check=False,
        capture_output=True,
        timeout=30,
    )
    return done.returncode
