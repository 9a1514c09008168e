"""Asks a worker's probes, as an orchestrator and Prometheus would."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from meterfold_local.process import ManagedProcess
from support import eventually

DEADLINE = 90.0


class Metrics(dict[tuple[str, str], float]):
    """(name without its prefix, value of its one label) -> value; a name alone stands for one without a label."""

    def __missing__(self, key: Any) -> float:
        assert isinstance(key, str), f"no sample {key}; there are {sorted(self)}"
        return self[key, ""]

    def total(self, name: str) -> float:
        return sum(value for (found, _), value in self.items() if found == name)

    def labels(self, name: str) -> set[str]:
        return {label for found, label in self if found == name}


@dataclass(frozen=True)
class Probes:
    url: str

    @classmethod
    def of(cls, worker: ManagedProcess) -> Probes:
        """By the line that the worker logs."""
        worker.wait_for_line("health and metrics on", DEADLINE)
        found = re.search(r"health and metrics on (http://\S+)", worker.output())
        assert found is not None
        return cls(found[1])

    def ask(self, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def metrics(self) -> Metrics:
        with urllib.request.urlopen(self.url + "/metrics", timeout=20) as answer:
            text = answer.read().decode()
        return Metrics(
            {
                (sample.name.removeprefix("meterfold_"), ",".join(sample.labels.values())): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def wait_ready(self) -> list[str]:
        """Until both probes are good; the problems of then: none."""

        def good() -> Any:
            answers = self.ask("/readyz"), self.ask("/healthz")
            assert [status for status, _ in answers] == [200, 200], answers
            return answers

        problems: list[str] = [text for _, body in eventually(good, DEADLINE, "ready") for text in body["problems"]]
        return problems

    def wait_unready(self, text: str) -> list[str]:
        return self._wait_bad("/readyz", text)

    def wait_dead(self, text: str) -> list[str]:
        return self._wait_bad("/healthz", text)

    def _wait_bad(self, path: str, text: str) -> list[str]:
        """Until the probe is bad with a problem that has this text; all its problems."""

        def bad() -> list[str]:
            status, body = self.ask(path)
            assert status == 503, (status, body)
            assert any(text in problem for problem in body["problems"]), body
            problems: list[str] = body["problems"]
            return problems

        return eventually(bad, DEADLINE, f"{path} is bad: {text}")
