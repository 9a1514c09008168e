"""Child processes: awaited by condition, ended by a deadline, gone with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from meterfold_local import watchdog
from meterfold_local.errors import StackError
from meterfold_local.process import ManagedProcess, tail
from support import eventually

SLEEP = "import time; print('up', flush=True); time.sleep(60)"


def python(tmp_path: Path, code: str, **more: object) -> ManagedProcess:
    return ManagedProcess("the child", [sys.executable, "-c", code], tmp_path / "logs" / "child.log", **more)  # type: ignore[arg-type]


def test_ready_line_output_and_clean_end(tmp_path: Path) -> None:
    child = python(tmp_path, SLEEP)
    child.start()
    assert child.wait_for_line("up", 60) == "up"
    assert child.running
    assert child.terminate() == -signal.SIGTERM
    assert not child.running
    child.start()  # again: only what this run printed counts
    child.wait_for_line("up", 60)
    assert child.output() == "up\n"
    assert child.log_file.read_text() == "up\nup\n"
    child.kill()
    assert child.exit_code == -signal.SIGKILL


def test_an_early_death_shows_the_end_of_the_log(tmp_path: Path) -> None:
    own_log = tmp_path / "own.log"
    code = f"open({str(own_log)!r}, 'w').write('disk is full'); print('giving up'); raise SystemExit(3)"
    child = python(tmp_path, code, more_logs=[own_log])
    child.start()
    with pytest.raises(StackError, match=r"(?s)the child ended with status 3 .*disk is full.*giving up"):
        child.wait_for_line("ready", 60)


def test_a_deadline_that_passes_shows_it_too(tmp_path: Path) -> None:
    child = python(tmp_path, SLEEP)
    child.start()
    child.wait_for_line("up", 60)
    with pytest.raises(StackError, match=r"(?s)not finished within 0.1 s.*up"):
        child.wait_until(lambda: False, 0.1, "finished")
    child.kill()


def test_what_ignores_sigterm_is_killed_after_its_deadline(tmp_path: Path) -> None:
    child = python(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP)
    child.start()
    child.wait_for_line("up", 60)
    assert child.terminate(0.2) == -signal.SIGKILL


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    child = ManagedProcess("nothing", [str(tmp_path / "nothing")], tmp_path / "log")
    with pytest.raises(StackError, match="nothing can't be started"):
        child.start()
    assert child.terminate() is None


def test_a_child_dies_with_its_sigkilled_parent(tmp_path: Path) -> None:
    """Also one that was started from a thread which had ended before."""
    stubborn = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + SLEEP
    parent = f"""
import sys, threading, time
from pathlib import Path
from meterfold_local.process import ManagedProcess
def start():
    child = ManagedProcess("child", [sys.executable, "-c", {stubborn!r}], Path({str(tmp_path / "child.log")!r}))
    child.start()
    child.wait_for_line("up", 60)
    print(child.pid, flush=True)
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        assert child.is_running()
        process.kill()
    eventually(lambda: not child.is_running(), 10, "child is gone")


def test_a_forked_sibling_does_not_keep_the_child_alive(tmp_path: Path) -> None:
    parent = f"""
import os, sys, time
from pathlib import Path
from meterfold_local.process import ManagedProcess
child = ManagedProcess("child", [sys.executable, "-c", {SLEEP!r}], Path({str(tmp_path / "child.log")!r}))
child.start()
sibling = os.fork()
if sibling:
    print(child.pid, sibling, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child, sibling = (psutil.Process(int(pid)) for pid in process.stdout.readline().split())
        process.kill()
        eventually(lambda: not child.is_running(), 10, "child is gone")
        assert sibling.is_running()
        sibling.kill()


def test_the_watchdog_leaves_a_reused_pid_alone() -> None:
    me = psutil.Process()
    assert watchdog.find(me.pid, me.create_time()) is not None
    assert watchdog.find(me.pid, me.create_time() - 60) is None
    # This would end the test run if it were signalled.
    watchdog.end_all({os.getpid(): me.create_time() - 60})


def test_tail(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(path) == ""
    path.write_text("".join(f"{n}\n" for n in range(100_000)))
    assert tail(path, 2) == "99998\n99999"
