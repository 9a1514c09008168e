"""A test that needs the machine for itself waits for the running ones, and those that come later wait for it."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from support.exclusive import turn
from support.waiting import eventually


@pytest.fixture
def locks(tmp_path: Path) -> dict[str, Path]:
    files = {name: tmp_path / name for name in ("gate", "lock")}
    for file in files.values():
        file.touch()
    return files


def _closed(gate: Path) -> bool:
    with gate.open("rb") as door:
        try:
            fcntl.flock(door, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_test_alone_gets_its_turn_before_those_that_come_later(locks: dict[str, Path]) -> None:
    seen: list[str] = []
    may_end = threading.Event()

    def take(name: str, *, alone: bool) -> threading.Thread:
        def run() -> None:
            with turn(alone=alone, **locks):
                seen.append(name)
                assert may_end.wait(60)
                seen.append(f"{name} ended")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    running = take("running", alone=False)
    eventually(lambda: seen == ["running"], 60, "the first test runs")
    alone = take("alone", alone=True)
    eventually(lambda: _closed(locks["gate"]), 60, "the test alone waits")
    later = [take("later", alone=False) for _ in range(3)]
    assert seen == ["running"]
    may_end.set()
    for thread in (running, alone, *later):
        thread.join(60)
    assert seen[:4] == ["running", "running ended", "alone", "alone ended"]
    assert sorted(seen[4:]) == ["later"] * 3 + ["later ended"] * 3


def test_tests_that_share_run_together(locks: dict[str, Path]) -> None:
    both = threading.Barrier(2)

    def run() -> None:
        with turn(alone=False, **locks):
            both.wait(60)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not both.broken
