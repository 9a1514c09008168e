"""`meterfold up`: one command from nothing to a running installation, and all of it gone at the end."""

from __future__ import annotations

import itertools
import re
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from meterfold import InvalidUsage, Meter
from meterfold_local.stack_state import ProcessInfo, read_state, running_stack
from meterfold_processor.kafka import clients
from meterfold_schemas.settings import KafkaSettings
from support import eventually
from support.cli import answer, meterfold, running

HEADER = "id,metric_key,subject_type,subject_id,quantity,timestamp"
PORTS = ("--port", "0", "--clickhouse-port", "0", "--http-port", "0")


def processes(data: Path) -> tuple[ProcessInfo, ...]:
    state = read_state(data)
    return state.processes if state else ()


@pytest.mark.stack
def test_one_command_runs_everything_and_ctrl_c_stops_all_of_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "METERFOLD_CONFIG": str(data / "meterfold.toml")}
    with running(
        "up", "--data", str(data), *PORTS, env=env, folder=tmp_path, ready="ready; Ctrl-C", deadline=120
    ) as up:
        text = up.output()
        assert f"export METERFOLD_CONFIG={data / 'meterfold.toml'}\n" in text
        with Meter(config=data / "meterfold.toml") as meter, pytest.raises(InvalidUsage) as caught:
            meter.record("api.calls", ("user", "u1"), timestamp=datetime.now(UTC) - timedelta(days=36))
        assert caught.value.code == "TOO_OLD"
        secrets = re.findall(r'"([0-9a-f]{48})"', (data / "secrets.json").read_text(encoding="utf-8"))
        assert len(secrets) == 3
        assert not [secret for secret in secrets if secret in text]

        answer("metric", "define", "api.calls", "--name", "Calls", "--unit", "calls", env=env)
        answer("threshold", "create", "api.calls", "--name", "quota", "--value", "10", env=env)
        events = tmp_path / "events.csv"
        events.write_text(
            "id,metric_key,subject_type,subject_id,quantity,timestamp\n"
            f"a,api.calls,user,u1,12,{datetime.now(UTC).isoformat()}\n",
            encoding="utf-8",
        )
        assert answer("import", events, env=env)["delivered"] == 1

        def asked(sql: str) -> str:
            command = ["curl", "-sSK", str(data / "curl.conf"), "--data-binary", sql]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

        eventually(lambda: asked("SELECT count() FROM threshold_events FINAL") == "2", 30)
        assert asked("SELECT total_quantity FROM usage_monthly") == "12"

        again = meterfold("up", "--data", data, env=env)
        assert again.returncode == 1
        assert "is already running in" in again.stderr
        assert f"(pid {up.pid})" in again.stderr

        fold = next(process for process in processes(data) if process.name == "fold")
        psutil.Process(fold.pid).kill()
        eventually(lambda: any(p.name == "fold" and p.alive and p.pid != fold.pid for p in processes(data)), 30)
        eventually(lambda: answer("status", env=env)["kafka"]["fold_group"]["members"] == 1, 40)

        checker = next(process for process in processes(data) if process.name == "check")
        newcomer = meterfold("check", env=env)
        assert newcomer.returncode == 1
        told = [line for line in newcomer.stderr.splitlines() if line.startswith("meterfold: ")]
        assert len(told) == 1
        assert f"slot 0 is already in use by a checker (process {checker.pid} on " in told[0]
        assert f"run by `meterfold up` in {data}" in told[0]
        assert "METERFOLD_CHECKER_SLOT=1 meterfold check" in told[0]
        assert checker.alive

        def add(event_id: str) -> None:
            row = f"{event_id},api.calls,user,{event_id},12,{datetime.now(UTC).isoformat()}"
            again = tmp_path / f"{event_id}.csv"
            again.write_text(f"{HEADER}\n{row}\n", encoding="utf-8")
            assert answer("import", again, env=env)["delivered"] == 1

        numbers = itertools.count()

        def ended_for_it() -> bool:
            """Whoever is fenced once only begins anew, and notices when it has something to write."""
            thief = clients.producer(KafkaSettings.load(environ=env), **{"transactional.id": "meterfold-checker-0"})
            thief.init_transactions(20)
            add(f"f{next(numbers)}")
            return not checker.alive

        eventually(ended_for_it, 60, "the checker gives up its slot")
        eventually(lambda: any(p.name == "check" and p.alive for p in processes(data)), 30)
        add("last")
        eventually(lambda: asked("SELECT count() FROM threshold_events FINAL WHERE subject_id = 'last'") == "2", 60)
        assert "lost its slot to another checker; restarting it" in up.output()
        assert up.running

        left = processes(data)
        up.signal(signal.SIGINT)
        assert up.wait(60) == 0
        assert not [process for process in left if process.alive]
        assert running_stack(data) is None
        assert not (data / "curl.conf").exists()
        assert "Traceback" not in up.output()


@pytest.mark.stack
def test_a_second_ctrl_c_kills_and_a_kafka_that_is_not_there_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home())}
    ready = "ready; Ctrl-C"
    with running("up", "--data", str(data), "--no-workers", *PORTS, env=env, folder=tmp_path, ready=ready) as up:
        left = processes(data)
        broker = next(process for process in left if "kafka" in process.name.lower())
        psutil.Process(broker.pid).suspend()  # it will not stop in order
        up.signal(signal.SIGINT)
        eventually(lambda: "stopping" in up.output(), 60)
        up.signal(signal.SIGINT)
        assert up.wait(60) == 130
        eventually(lambda: not [process for process in left if process.alive], 20)
    (data / "meterfold.toml").unlink(missing_ok=True)
    env["METERFOLD_KAFKA_HOME"] = str(tmp_path / "nothing")
    refused = meterfold("up", "--data", data, *PORTS, env=env)
    assert refused.returncode == 1
    assert str(tmp_path / "nothing") in refused.stderr
    assert "Traceback" not in refused.stderr
