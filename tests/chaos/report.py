"""What a run has done, as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from chaos.faults import Outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: faults by kind, how many of them struck where they were to, how many were recovered from, and how long
    that took."""
    kinds: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        kinds[outcome.fault.kind].append(outcome)
    lines = ["| fault | times | as planned | recovered | median s | longest s |", "|---|---:|---:|---:|---:|---:|"]
    lines += [_line(kind, found) for kind, found in sorted(kinds.items())]
    lines.append(_line("all", outcomes))
    return "\n".join(lines)


def _line(name: str, outcomes: Sequence[Outcome]) -> str:
    seconds = [outcome.seconds for outcome in outcomes if outcome.seconds is not None]
    middle, longest = (f"{median(seconds):.1f}", f"{max(seconds):.1f}") if seconds else ("", "")
    planned = sum(not outcome.missed for outcome in outcomes)
    return f"| {name} | {len(outcomes)} | {planned} | {len(seconds)} | {middle} | {longest} |"
