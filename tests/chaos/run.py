"""One run: start everything, inject, let it come to rest, compare."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from chaos.alerts import Alerts, check_alerts
from chaos.crew import Crew
from chaos.definitions import DefinitionChanges
from chaos.faults import Injector, Outcome
from chaos.foreign import Foreign
from chaos.ground import Ground
from chaos.ledger import Account, check_ledger
from chaos.lookout import Lookout
from chaos.plan import KINDS, PRODUCERS, draw
from chaos.proxy import Proxy
from fold_support import Truth, check
from meterfold_deploy import exits
from meterfold_deploy.local import command
from meterfold_deploy.stack import LocalStack
from meterfold_deploy.stack_settings import write_settings
from meterfold_schemas.definitions import UsageThreshold
from stack_support import eventually

T = TypeVar("T")

REST_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Options:
    """`faults` at most, and none begins after `seconds`. `broken` names a variant that must be caught."""

    seed: int
    faults: int
    folder: Path
    seconds: float | None = None
    kinds: tuple[str, ...] = tuple(KINDS)
    broken: str | None = None
    protocol: str | None = None


@dataclass(slots=True)
class Result:
    """`differences` in words; none of them: exactly once, proven."""

    outcomes: list[Outcome] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    account: Account | None = None
    alerts: Alerts | None = None
    verified: str = ""
    seconds: float = 0.0


def run(options: Options, tell: Callable[[str], None]) -> Result:
    """Raises only what keeps a run from being one; a difference is in the result."""
    result = Result()
    begun = time.monotonic()
    with LocalStack(options.folder / "stack", brokers=3, kafka_port=0, clickhouse_port=0) as stack:
        ground = Ground(stack)
        tell(f"three brokers and ClickHouse after {time.monotonic() - begun:.0f} s")
        proxy = Proxy(ground.clickhouse.url)
        proxy.start()
        settings = options.folder / "settings" / "meterfold.toml"
        write_settings(settings, ground.kafka, ground.clickhouse.model_copy(update={"url": proxy.url}))
        environment = {**stack.environment(), "METERFOLD_CONFIG": str(settings)}
        protocol = options.protocol or ("consumer", "classic")[options.seed % 2]
        more = {} if options.broken is None else {"broken": options.broken}
        crew = Crew(options.folder, environment, options.seed, protocol, **more)
        crew.allowed = ["readonly mode"]
        lookout = Lookout(ground)
        foreign = Foreign(ground, crew.journal("foreign"), options.seed)
        try:
            crew.start()
            lookout.start()
            fixed = ground.define()
            crew.start_producers()
            foreign.start()
            if not lookout.wait_fold(60) or not lookout.wait_checker(60):
                raise RuntimeError("the workers never began")
            tell(f"producers, workers and thresholds after {time.monotonic() - begun:.0f} s; faults begin")
            changes = DefinitionChanges(ground)
            injector = Injector(stack, ground, crew, proxy, lookout, changes, tell)
            result.outcomes = injector.outcomes
            _inject(options, injector, tell)
            tell(f"no more faults after {time.monotonic() - begun:.0f} s")
            _check(options, result, stack, ground, crew, foreign, lookout, fixed, tell)
        finally:
            lookout.stop()
            crew.stop()
            proxy.stop()
            ground.close()
    result.seconds = time.monotonic() - begun
    return result


def _inject(options: Options, injector: Injector, tell: Callable[[str], None]) -> None:
    until = None if options.seconds is None else time.monotonic() + options.seconds
    for fault in draw(options.seed, options.kinds):
        if fault.number > options.faults or (until is not None and time.monotonic() > until):
            break
        injector.inject(fault)
    injector.wait()


def _check(
    options: Options,
    result: Result,
    stack: LocalStack,
    ground: Ground,
    crew: Crew,
    foreign: Foreign,
    lookout: Lookout,
    fixed: dict[str, UsageThreshold],
    tell: Callable[[str], None],
) -> None:
    """Everything that can differ; each part is looked at even if one before it differs."""

    def differs(what: str, check: Callable[[], T]) -> T | None:
        begun = time.monotonic()
        try:
            return check()
        except AssertionError as error:
            result.differences.append(f"{what}: {error}")
            return None
        finally:
            tell(f"{what}: looked at in {time.monotonic() - begun:.0f} s")

    lost = [str(outcome.fault) for outcome in result.outcomes if outcome.seconds is None]
    if lost:
        result.differences.append(f"not recovered from: {lost}")
    foreign.stop()
    for name, code in crew.stop_producers().items():
        if code != 0:
            result.differences.append(f"producer {name} ended with status {code}")
    if not lookout.wait_fold(REST_SECONDS):
        result.differences.append(f"not folded: {lookout.progress} of {lookout.ends}")
    if not lookout.wait_checker(REST_SECONDS):
        result.differences.append(f"not judged: {lookout.judged} of {lookout.window_ends}")
    for ending in crew.endings:
        result.differences.append(f"{ending.name} ended by itself with status {ending.code}:\n{ending.words}")
    truth = Truth.of(ground.log(), ground.rules)
    journals = {name: crew.journal(name) for name in PRODUCERS}
    differs("tables and topics of the fold", lambda: check(ground))
    result.account = differs("journals", lambda: check_ledger(ground, truth, journals, crew.journal("foreign")))
    result.alerts = differs(
        "thresholds and aggregates",
        lambda: eventually(lambda: check_alerts(ground, truth, fixed), 60, "the checker is at rest"),
    )
    result.verified = differs("meterfold verify", lambda: _verify(stack)) or ""


def _verify(stack: LocalStack) -> str:
    """The command proves the same from its own side."""
    until = time.monotonic() + REST_SECONDS
    while True:
        done = subprocess.run(
            [*command("verify"), "--wait", "60", "--contents", "--json"],
            env=stack.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != exits.UNAVAILABLE or time.monotonic() > until:
            break
    assert done.returncode == exits.OK, f"exit status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-1000:]}"
    report = json.loads(done.stdout)
    return f"proven, {len(report['partitions'])} partitions"
