"""Medians as rows of a table, each with its ratio to Meterfold on the same backlog and format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from peers.contestants import PEERS
from peers.outcomes import Median

OURS: Final = "meterfold"
HEADERS: Final = (
    "input", "events/s", "Meterfold is x times as fast", "CPU us/event: peer", "ClickHouse", "Kafka", "all",
    "memory MB", "runs",
)  # fmt: skip
TITLES: Final = {peer.name: peer.title for peer in PEERS}
FORMAT_TITLES: Final = {"avro": "Avro", "json": "JSON"}


def rows(medians: Sequence[Median]) -> list[list[str]]:
    """One row per peer and format, in the order of the peers; a peer that failed says so."""
    ours = {one.format: one for one in medians if one.peer == OURS and not one.failed}
    order = {name: number for number, name in enumerate(TITLES)}
    found = []
    for one in sorted(medians, key=lambda one: (order.get(one.peer, len(order)), one.format)):
        head = [TITLES.get(one.peer, one.peer), FORMAT_TITLES[one.format]]
        if one.failed:
            found.append([*head, "failed", *[""] * 6, "0"])
            continue
        base = ours.get(one.format)
        ratio = "" if base is None or one.peer == OURS else f"{base.rate / one.rate:.1f}"
        cpu = [f"{one.cpu[name]:.1f}" for name in ("peer", "ClickHouse", "Kafka")]
        total = f"{one.total_cpu:.1f}"
        found.append([*head, f"{one.rate:,.0f}", ratio, *cpu, total, f"{one.memory / 1e6:,.0f}", str(one.runs)])
    return found
