"""One run: start everything, inject, let it come to rest, compare."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from chaos.brokers import quick
from chaos.faults import Outcome
from chaos.field import Field, Findings
from chaos.plan import CHECKERS, FOLDS, KINDS, NOTIFIERS, draw
from meterfold_local.stack import LocalStack


@dataclass(frozen=True, slots=True)
class Options:
    """`faults` at most, and none begins after `seconds`. `broken` names a variant that must be caught. `kinds` are
    some of those that can happen on so many `brokers`."""

    seed: int
    faults: int
    folder: Path
    seconds: float | None = None
    kinds: tuple[str, ...] = tuple(KINDS)
    broken: str | None = None
    protocol: str | None = None
    brokers: int = 3
    notifiers: bool = True


@dataclass(slots=True)
class Result:
    outcomes: list[Outcome] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)
    seconds: float = 0.0


def run(options: Options, tell: Callable[[str], None]) -> Result:
    """Raises only what keeps a run from being one; a difference is in the result."""
    result = Result()
    begun = time.monotonic()
    folder, brokers = options.folder / "stack", options.brokers
    with quick(), LocalStack(folder, brokers=brokers, kafka_port=0, clickhouse_port=0) as stack:
        tell(f"brokers ({brokers}) and ClickHouse after {time.monotonic() - begun:.0f} s")
        workers = (*FOLDS, *CHECKERS, *(NOTIFIERS if options.notifiers else ()))
        with Field(
            stack,
            options.folder,
            options.seed,
            tell,
            protocol=options.protocol,
            broken=options.broken,
            workers=workers,
        ) as installation:
            tell(f"producers, workers and thresholds after {time.monotonic() - begun:.0f} s; faults begin")
            installation.inject(islice(draw(options.seed, options.kinds), options.faults), options.seconds)
            tell(f"no more faults after {time.monotonic() - begun:.0f} s")
            result.outcomes = installation.outcomes
            unrest = installation.rest()
            result.findings = installation.compare()
            result.findings.differences[:0] = unrest
    result.seconds = time.monotonic() - begun
    return result
