"""python -m alarms [FAULT...]: every alert rule of deploy/prometheus is fired once by a real fault, and resolved.

The workers run on servers of their own. A thread scrapes them as Prometheus would, and promtool evaluates the rules
over what was scraped (recording.py). Each fault of cases.py has to fire its alerts; they are silent before and resolved
after it. Exit status 1 when an alert fails, 3 when there is no promtool.
"""

# ruff: noqa: T201

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from alarms.cases import FAULTS, Fault, begin
from alarms.recording import Recording, Rules
from alarms.scene import Scene
from deploy.promtool import FOLDER, UNAVAILABLE, find
from meterfold_local.stack import LocalStack
from support.receivers import endpoint, mailbox

QUIET_TICKS = 30
"""Scrapes without a fault at the beginning."""
FIRE_SECONDS = 300.0
RESOLVE_SECONDS = 400.0
LOOK_SECONDS = 2.0


def main() -> int:
    promtool = find()
    if promtool is None:
        print("alerts: NOT RUN; install Prometheus, or set PROMTOOL to its promtool", flush=True)
        return UNAVAILABLE
    chosen = [fault for fault in FAULTS if not sys.argv[1:] or fault.does.__name__ in sys.argv[1:]]
    folder = Path(tempfile.mkdtemp(prefix="meterfold-alerts-"))
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} {text}", flush=True)

    try:
        run(Rules(promtool, FOLDER / "alerts.yml", folder), folder, tell, chosen)
    except AssertionError as error:
        print(f"FAILED: {error}\nlogs and the recording are in {folder}", flush=True)
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def run(rules: Rules, folder: Path, tell: Callable[[str], None], faults: Sequence[Fault]) -> None:
    """AssertionError when an alert is not silent, does not fire, or is not resolved."""
    with ExitStack() as ending:
        stack = ending.enter_context(LocalStack(folder / "stack", kafka_port=0, clickhouse_port=0))
        stack.write_settings()
        receivers = ending.enter_context(endpoint()), ending.enter_context(mailbox())
        receivers[1].answers = ["451 try again later"] * 3
        scene = ending.enter_context(closing(Scene(stack, folder, *receivers)))
        begin(scene)
        recording = ending.enter_context(Recording(scene.ports))
        scene.scrapes = lambda: len(recording.ticks)

        def until(condition: Callable[[frozenset[str]], bool], seconds: float) -> frozenset[str]:
            """The alerts that fire as soon as the condition holds for them, or after this time."""
            end = time.monotonic() + seconds
            while True:
                firing = rules.firing(list(recording.ticks))
                if condition(firing) or time.monotonic() > end:
                    return firing
                time.sleep(LOOK_SECONDS)

        firing = until(lambda _: len(recording.ticks) >= QUIET_TICKS, FIRE_SECONDS)
        assert not firing, f"without a fault, {_names(firing)} fire"
        for fault in faults:
            wanted, name = fault.alerts, fault.does.__name__
            firing = until(lambda now, wanted=wanted: not wanted & now, RESOLVE_SECONDS)
            assert not wanted & firing, f"before {name}, {_names(wanted & firing)} fire"
            tell(name)
            steps = fault.does(scene)
            next(steps)
            seen: set[str] = set()

            def complete(now: frozenset[str], seen: set[str] = seen, wanted: frozenset[str] = wanted) -> bool:
                for alert in sorted((now & wanted) - seen):
                    tell(f"  {alert} fires")
                seen.update(now)
                return wanted <= seen

            until(complete, FIRE_SECONDS)
            assert wanted <= seen, f"{name} does not fire {_names(wanted - seen)}"
            next(steps, None)
            firing = until(lambda now, fires=fault.fires: not fires & now, RESOLVE_SECONDS)
            assert not fault.fires & firing, f"after {name}, {_names(fault.fires & firing)} still fire"
            tell("  mended")
        firing = until(lambda now: not now, RESOLVE_SECONDS)
        assert not firing, f"at the end, {_names(firing)} still fire"
        tell(f"{sum(len(fault.alerts) for fault in faults)} alerts have fired, and are resolved")


def _names(alerts: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(alerts))


if __name__ == "__main__":
    sys.exit(main())
