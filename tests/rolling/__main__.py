"""python -m rolling: two fold workers and two checkers are replaced one by one while events arrive without a pause.

Without --from, every worker is restarted. With --from REVISION, the workers of that commit are upgraded to this version
in the order of docs/upgrading.md: migrate, fold workers, checkers. At the end `verify` proves every number, every event
that was sent is counted once, and no event has waited for longer than 15 seconds.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

from meterfold import Meter
from meterfold_local.stack import LocalStack
from meterfold_schemas.settings_sources import Sources
from meterfold_service.status.look import Inspector
from rolling.crew import Crew, Watch
from rolling.versions import Version, before_the_newest_migration
from support import eventually

MOST_SECONDS = 15.0
"""No event may wait for longer."""
PER_SECOND = 400
LOAD_SECONDS = 600.0
"""After that no more events are sent, whatever happens."""
WORKERS = ("fold-0", "fold-1", "check-0", "check-1")
SUBJECTS = 40


class Load:
    """Events without a pause, every tenth of them twice, up and down through the threshold."""

    def __init__(self, config: Path) -> None:
        self._meter = Meter(config=config)
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self.sent = 0
        self.repeated = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        self._meter.close()

    def _run(self) -> None:
        end = time.monotonic() + LOAD_SECONDS
        while not self._stop.wait(0.1) and time.monotonic() < end:
            for _ in range(PER_SECOND // 10):
                number = self.sent
                quantity = 5 if number % (SUBJECTS * 20) < SUBJECTS * 12 else -5
                values = ("api.calls", ("user", f"u{number % SUBJECTS}"), quantity)
                self._meter.record(*values, id=f"e{number}")
                self.sent += 1
                if number % 10 == 0:
                    self._meter.record(*values, id=f"e{number}")
                    self.repeated += 1


def main() -> int:
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="meterfold-rolling-"))
    begun = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} {text}", flush=True)

    new = Version("new")
    old = Version("old")
    if arguments.upgrade:
        old = Version.of_commit(arguments.revision or before_the_newest_migration(), folder / "versions")
    tell(f"from {old.label} to {new.label}, in {folder}")
    try:
        problems = run(folder, old, new, tell)
    except BaseException:
        print(f"what is left is in {folder}")
        raise
    for problem in problems:
        print(f"PROBLEM {problem}")
    if problems:
        print(f"what is left is in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def run(folder: Path, old: Version, new: Version, tell: Callable[[str], None]) -> list[str]:
    """The problems that were found; AssertionError when a worker does not start or stop."""
    with LocalStack(folder / "stack", kafka_port=0, clickhouse_port=0) as stack:
        stack.write_settings()
        environment = stack.environment()
        config = Path(environment["METERFOLD_CONFIG"])
        old.run("migrate", env=environment)
        crew = Crew(folder, environment)
        sources = Sources.read(config=config)
        inspector = Inspector(sources, stack.kafka_settings(), stack.clickhouse_settings())
        try:
            with inspector:
                for name in WORKERS:
                    crew.start(name, old)
                old.run("metric", "define", "api.calls", "--name", "Calls", "--unit", "calls", env=environment)
                old.run("threshold", "create", "api.calls", "--name", "cap", "--value", "40", env=environment)
                with Load(config) as load, Watch(inspector, tell) as watch:
                    _flow(load)
                    if old.folder is not None:
                        watch.during("migrate")
                        new.run("migrate", env=environment)
                    for name in WORKERS:
                        watch.during(f"replace {name}")
                        crew.stop(name)
                        crew.start(name, new)
                        crew.require_running()
                        _flow(load)
                tell(f"{load.sent:,} events, {load.repeated:,} of them twice; {watch.looks} looks")
                new.run("status", "--wait", "120", env=environment)
                verified = new.run("verify", "--wait", "60", env=environment).splitlines()[-1]
                tell(verified)
                report = inspector.look()
                crew.require_running()
        finally:
            crew.kill()
    for step, (fold, check) in watch.longest.items():
        tell(
            f"{step}: the oldest event waited {fold:.1f} s for the fold, the oldest window {check:.1f} s for a checker"
        )
    problems = [
        f"{step}: an event waited {longest:.1f} s"
        for step, seconds in watch.longest.items()
        if (longest := max(seconds)) > MOST_SECONDS
    ]
    if (report.counted, report.duplicates, report.rejected) != (load.sent, load.repeated, 0):
        problems.append(
            f"sent {load.sent} and {load.repeated} repetitions; counted {report.counted}, duplicates "
            f"{report.duplicates}, rejected {report.rejected}"
        )
    if not verified.startswith("proven"):
        problems.append(verified)
    return problems


def _flow(load: Load) -> None:
    """Some more events, while nothing changes."""
    seen = load.sent
    eventually(lambda: load.sent > seen + 3 * PER_SECOND, 60, "events flow")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="rolling", description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="begin with the workers of an earlier version")
    parser.add_argument("--from", dest="revision", metavar="REVISION", help="with --upgrade: that version")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
