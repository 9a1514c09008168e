"""Collects what is found, at most so many of each check: a table that was emptied must not fill the memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from meterfold_processor.verify.report import Finding, Unproven

__all__ = ["Findings", "Tell"]

Tell = Callable[[int, int, str], None]
"""Progress: steps done, steps in all, and what is being done."""


class Findings:
    """`limit` findings of each check and partition are kept, the others counted in `more`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.found: list[Finding] = []
        self.unproven: list[Unproven] = []
        self.more = 0
        self._counts: Counter[tuple[str, int | None]] = Counter()

    def add(self, *findings: Finding) -> None:
        for finding in findings:
            name = finding.check, finding.partition
            self._counts[name] += 1
            if self._counts[name] <= self.limit:
                self.found.append(finding)
            else:
                self.more += 1

    def extend(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.add(finding)

    def cannot(self, *unproven: Unproven) -> None:
        self.unproven.extend(unproven)
