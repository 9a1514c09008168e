"""The results file: one entry per run, written after each run, so that an interrupted benchmark can be continued."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

__all__ = ["PROCESSES", "Median", "Outcome", "Results", "medians"]

PROCESSES: Final = ("peer", "ClickHouse", "Kafka")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. `seconds` from the first record to the last row in ClickHouse; `cpu` in microseconds per event by
    process; `memory` is the peak of all processes of the peer, in bytes. `error` is empty for a run whose windows
    equal the oracle's."""

    peer: str
    format: str
    backlog: str
    events: int
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=dict)
    memory: int = 0
    startup: float = 0.0
    error: str = ""
    machine: str = ""
    measured_at: str = ""

    @property
    def case(self) -> tuple[str, str, str, int]:
        return self.peer, self.format, self.backlog, self.events


@dataclass(frozen=True, slots=True)
class Median:
    """Medians over the successful runs of one peer, format and backlog. `failed` is the error of the newest run if no
    run succeeded; all figures are then 0."""

    peer: str
    format: str
    backlog: str
    events: int
    runs: int
    rate: float
    cpu: dict[str, float]
    memory: float
    failed: str = ""

    @property
    def total_cpu(self) -> float:
        """Microseconds per event of the peer, the broker and ClickHouse."""
        return sum(self.cpu.values())


class Results:
    """The outcomes in a file of JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.outcomes: list[Outcome] = []
        if path.exists():
            entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["runs"]
            self.outcomes = [Outcome(**entry) for entry in entries]

    def missing(self, case: tuple[str, str, str, int], runs: int) -> int:
        """How many successful runs this case still needs."""
        return max(0, runs - sum(one.case == case and not one.error for one in self.outcomes))

    def forget(self, cases: Iterable[tuple[str, str, str, int]]) -> None:
        dropped = set(cases)
        self.outcomes = [one for one in self.outcomes if one.case not in dropped]

    def add(self, outcome: Outcome) -> None:
        """Append and write. A success replaces earlier failures of the same case."""
        if not outcome.error:
            self.outcomes = [one for one in self.outcomes if one.case != outcome.case or not one.error]
        self.outcomes.append(outcome)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        text = json.dumps({"runs": [asdict(one) for one in self.outcomes]}, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self._path)


def medians(outcomes: Sequence[Outcome]) -> list[Median]:
    """One per case, in the order of the first run of each."""
    found = []
    for case in dict.fromkeys(one.case for one in outcomes):
        runs = [one for one in outcomes if one.case == case]
        good = [one for one in runs if not one.error]
        if not good:
            found.append(Median(*case, 0, 0.0, {}, 0.0, runs[-1].error or "unknown"))
            continue
        cpu = {name: statistics.median(one.cpu.get(name, 0.0) for one in good) for name in PROCESSES}
        rate = case[3] / statistics.median(one.seconds for one in good)
        found.append(Median(*case, len(good), rate, cpu, statistics.median(one.memory for one in good)))
    return found
