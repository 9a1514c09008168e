"""What `fold_settings` and `fold_progress` say, without the imports of whoever reads rows by the million."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from meterfold_sink.rules import FoldRules

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["FoldedThrough", "folded_through", "read_rules", "read_settings"]

_FOLDED: Final = "SELECT partition, next_offset, last_stamp FROM fold_progress FINAL"


def read_settings(client: Client) -> dict[str, str]:
    """All rows of fold_settings."""
    rows = client.rows("SELECT name, value FROM fold_settings FINAL")
    return {row["name"]: row["value"] for row in rows}


def read_rules(client: Client) -> FoldRules:
    """The stored rules. Raises Fatal when there are none: `meterfold migrate` was not run."""
    return FoldRules.from_rows(read_settings(client))


@dataclass(frozen=True, slots=True)
class FoldedThrough:
    """Every event below `next_offset` is in the numbers; `last_stamp` is when the last of them arrived, by the broker's
    clock (the epoch before the first)."""

    next_offset: int
    last_stamp: datetime


def folded_through(client: Client) -> dict[int, FoldedThrough]:
    """Partition: how far it is folded. Raises Retryable or Fatal."""
    return {row["partition"]: FoldedThrough(row["next_offset"], row["last_stamp"]) for row in client.rows(_FOLDED)}
