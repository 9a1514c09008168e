"""What a PromQL expression reads: the metrics, and the labels that it names. promtool checks the grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Selector", "labels_of_grouping", "selectors"]

_METRIC: Final = re.compile(r"\b((?:meterfold|process)_\w+|up)\b\s*(?:\{([^}]*)\})?")
_LABEL: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING: Final = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")


@dataclass(frozen=True, slots=True)
class Selector:
    """One metric of an expression, and the labels in its braces."""

    metric: str
    labels: frozenset[str]


def selectors(expression: str) -> Iterator[Selector]:
    """Every metric that the expression reads."""
    for name, braces in _METRIC.findall(expression):
        yield Selector(name, frozenset(_LABEL.findall(braces)))


def labels_of_grouping(expression: str) -> frozenset[str]:
    """The labels of by (...), on (...)."""
    groupings = ",".join(_GROUPING.findall(expression))
    return frozenset(groupings.replace(" ", "").split(",")) - {""}


def check(expression: str, exported: dict[str, frozenset[str]]) -> None:
    """AssertionError unless every metric is exported, with the labels that are read."""
    found = list(selectors(expression))
    assert found, f"no metric in {expression!r}"
    for selector in found:
        assert selector.metric in exported, f"{selector.metric} is not exported: {expression}"
        unknown = selector.labels - exported[selector.metric]
        assert not unknown, f"{selector.metric} has no label {', '.join(unknown)}: {expression}"
    grouped = labels_of_grouping(expression)
    known = frozenset().union(*(exported[selector.metric] for selector in found))
    assert grouped <= known, f"no metric has the labels {sorted(grouped - known)}: {expression}"
