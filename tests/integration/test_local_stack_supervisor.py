"""The supervisor's own end: by Ctrl-C, by SIGTERM, by SIGKILL."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from meterfold_local.stack import LocalStack
from meterfold_local.stack_state import StackState, read_state, running_stack
from support import eventually

pytestmark = pytest.mark.stack

SUPERVISOR = """
import signal, sys, threading
from meterfold_local.stack import LocalStack

stop = threading.Event()
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: stop.set())
with LocalStack(sys.argv[1], kafka_port=0, clickhouse_port=0) as stack:
    stack.spawn("worker", [sys.executable, "-c", "import time; time.sleep(300)"])
    stack.wait(stop)
print("stopped", flush=True)
"""


def start(data_dir: Path, log: Path) -> tuple[subprocess.Popen[bytes], StackState]:
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(data_dir)], stdout=output, stderr=output)

    def up() -> StackState | None:
        if process.poll() is not None:
            pytest.fail(log.read_text())
        state = running_stack(data_dir)
        return state if state is not None and len(state.processes) == 3 else None

    return process, eventually(up, 60, "the stack runs")


def test_ctrl_c_stops_everything_cleanly_and_quickly(tmp_path: Path) -> None:
    process, state = start(tmp_path / "data", tmp_path / "log")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert (tmp_path / "log").read_text() == "stopped\n"
    assert not [child for child in state.processes if child.alive]
    assert read_state(tmp_path / "data") is None


def test_children_die_with_a_sigkilled_supervisor_and_the_next_start_works(tmp_path: Path) -> None:
    process, state = start(tmp_path / "data", tmp_path / "log")
    assert {child.name for child in state.processes} == {"Kafka broker 1", "ClickHouse server", "worker"}
    assert all(child.alive for child in state.processes)
    process.kill()
    process.wait(60)
    # At once, while the old servers may still be going down on the same folders and ports.
    with LocalStack(tmp_path / "data", kafka_port=0, clickhouse_port=0) as stack:
        assert not [child for child in state.processes if child.alive]
        assert stack.kafka.bootstrap_servers == state.bootstrap_servers
        assert stack.clickhouse.url == state.clickhouse_url


def test_sigterm_is_as_good_as_ctrl_c(tmp_path: Path) -> None:
    process, state = start(tmp_path / "data", tmp_path / "log")
    children = [psutil.Process(child.pid) for child in state.processes]
    process.terminate()
    assert process.wait(60) == 0
    assert not [child for child in children if child.is_running()]
