"""Medians as rows of a table, each with its ratio to Meterfold on the same backlog and format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peers.contestants import PEERS
from peers.outcomes import Median

OURS: Final = "meterfold"
HEADERS: Final = (
    "input", "events/s", "Meterfold's rate / its rate", "CPU us/event: peer", "ClickHouse", "Kafka", "all",
    "its CPU / Meterfold's", "peak MB", "runs",
)  # fmt: skip
TITLES: Final = {peer.name: peer.title for peer in PEERS}
FORMAT_TITLES: Final = {"avro": "Avro", "json": "JSON"}


def in_order(medians: Sequence[Median]) -> list[Median]:
    """As the peers are listed, Avro before JSON."""
    order = {name: number for number, name in enumerate(TITLES)}
    return sorted(medians, key=lambda one: (order.get(one.peer, len(order)), one.format))


def rows(medians: Sequence[Median]) -> list[list[str]]:
    """One row per peer and format of one backlog. A peer that failed says so."""
    ours = {one.format: one for one in medians if one.peer == OURS and not one.failed}
    found = []
    for one in in_order(medians):
        head = [TITLES.get(one.peer, one.peer), FORMAT_TITLES[one.format]]
        if one.failed:
            found.append([*head, "failed", *[""] * (len(HEADERS) - 3), "0"])
            continue
        base = ours.get(one.format)
        compared = base is not None and one.peer != OURS
        cpu = [f"{one.cpu[name]:.1f}" for name in ("peer", "ClickHouse", "Kafka")]
        found.append(
            [
                *head,
                f"{one.rate:,.0f}",
                f"{base.rate / one.rate:.2f}" if base and compared else "",
                *cpu,
                f"{one.total_cpu:.1f}",
                f"{one.total_cpu / base.total_cpu:.2f}" if base and compared else "",
                f"{one.memory / 1e6:,.0f}",
                str(one.runs),
            ]
        )
    return found


def markdown(backlog: str, medians: Sequence[Median]) -> str:
    """The rows as a table of Markdown."""
    lines = [[backlog, *HEADERS], ["---", "---", *["---:"] * (len(HEADERS) - 1)], *rows(medians)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
