"""What Prometheus would have scraped, and what its rules make of it.

Each second every worker is scraped, and that is one scrape interval of TICK_SECONDS for the rules: their time runs
SPEED times as fast as ours, so that a `for: 5m` takes 20 seconds. Gauges of seconds (how long something has lasted, how
old it is) are stretched by the same factor. Thresholds, ranges and durations of the rules are those of the file, and
promtool evaluates it unchanged.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["SPEED", "TICK_SECONDS", "Recording", "Rules", "document", "samples", "written"]

SPEED: Final = 15
TICK_SECONDS: Final = 15
_SCRAPE_SECONDS: Final = 2.0
_JOB: Final = "meterfold"
_STRETCHED: Final = re.compile(r"meterfold_\w+_seconds")
_GOT: Final = re.compile(r'\{alertname="(\w+)"\}')

Tick = dict[str, float]
"""A series in promtool's notation -> its value in one scrape."""


def samples(instance: str, text: str) -> Tick:
    """The series of one answer of /metrics, without histograms, which no rule uses."""
    found = {}
    for family in text_string_to_metric_families(text):
        if family.type == "histogram":
            continue
        for sample in family.samples:
            stretched = family.type == "gauge" and _STRETCHED.fullmatch(sample.name)
            name = series(sample.name, {"job": _JOB, "instance": instance, **sample.labels})
            found[name] = sample.value * SPEED if stretched else sample.value
    return found


def series(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f"{key}={json.dumps(value)}" for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}"


def written(values: Iterable[float | None]) -> str:
    """The samples of one series in promtool's notation. A series that is missing in a scrape has ended there."""
    words, present = [], False
    for value in values:
        if value is None:
            words.append("stale" if present else "_")
        else:
            words.append(repr(float(value)))
        present = value is not None
    return " ".join(words)


def document(ticks: list[Tick], rules: Path) -> str:
    """A file for `promtool test rules` (JSON is YAML) whose answer names the alerts that fire at the last tick."""
    used = set(re.findall(r"\w+", rules.read_text(encoding="utf-8")))
    names = sorted({name for tick in ticks for name in tick if name.partition("{")[0] in used})
    return json.dumps(
        {
            "rule_files": [str(rules)],
            "evaluation_interval": f"{TICK_SECONDS}s",
            "tests": [
                {
                    "interval": f"{TICK_SECONDS}s",
                    "input_series": [
                        {"series": name, "values": written(tick.get(name) for tick in ticks)} for name in names
                    ],
                    "promql_expr_test": [
                        {
                            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                            "eval_time": f"{(len(ticks) - 1) * TICK_SECONDS}s",
                            "exp_samples": [],
                        }
                    ],
                }
            ],
        },
        indent=1,
    )


class Recording:
    """Scrapes `targets` (instance -> port) in a thread of its own."""

    def __init__(self, targets: Mapping[str, int]) -> None:
        self._targets = dict(targets)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrape", daemon=True)
        self.ticks: list[Tick] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        with ThreadPoolExecutor(len(self._targets)) as pool:
            while not self._stop.is_set():
                due = time.monotonic() + TICK_SECONDS / SPEED
                tick: Tick = {}
                for found in pool.map(_scrape, self._targets, self._targets.values()):
                    tick.update(found)
                self.ticks.append(tick)
                self._stop.wait(max(0.0, due - time.monotonic()))


def _scrape(instance: str, port: int) -> Tick:
    up = series("up", {"job": _JOB, "instance": instance})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SCRAPE_SECONDS)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return {**samples(instance, answer.read().decode()), up: 1.0} if answer.status == 200 else {up: 0.0}
    except (OSError, http.client.HTTPException):
        return {up: 0.0}
    finally:
        connection.close()


class Rules:
    """The alert rules, evaluated by promtool over a recording."""

    def __init__(self, promtool: str, rules: Path, folder: Path) -> None:
        self._promtool = promtool
        self._rules = rules
        self._file = folder / "recording.yml"

    def firing(self, ticks: list[Tick]) -> frozenset[str]:
        """Names of the alerts that fire after these scrapes."""
        if not ticks:
            return frozenset()
        self._file.write_text(document(ticks, self._rules), encoding="utf-8")
        done = subprocess.run(
            [self._promtool, "test", "rules", str(self._file)], capture_output=True, text=True, timeout=120, check=False
        )
        found = frozenset(_GOT.findall(done.stdout + done.stderr))
        assert found or done.returncode == 0, f"promtool failed:\n{done.stdout}\n{done.stderr}"
        return found
