"""What an answer about usage needs beside the numbers, in one statement: a round trip costs more than the rows do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from meterfold_sink.rules import FoldRules

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = ["SummaryFacts", "summary_facts"]

_SQL: Final = """
SELECT 'rule' AS what, name, value FROM fold_settings FINAL
UNION ALL
SELECT 'stamp', toString(partition), toString(toUnixTimestamp64Micro(last_stamp)) FROM fold_progress FINAL
UNION ALL
SELECT 'kind', org_id, toString(aggregation_type) FROM metric_definitions FINAL
WHERE deleted = 0 AND key = {metric_key:String} AND ({every:UInt8} OR org_id IN ({org_id:String}, ''))
"""


@dataclass(frozen=True, slots=True)
class SummaryFacts:
    """`kinds`: organization -> the aggregation type of its own definition of the metric; "" is the global one.
    `stamps`: partition -> broker's stamp of the last folded event in UTC microseconds, 0 before the first."""

    rules: FoldRules
    kinds: Mapping[str, str]
    stamps: Mapping[int, int]

    def kind_of(self, org_id: str) -> str | None:
        """The type by which an organization's usage is totalled; None without a definition."""
        return self.kinds.get(org_id) or self.kinds.get("")


def summary_facts(client: Client, metric_key: str, org_id: str | None) -> SummaryFacts:
    """The facts about a metric, of one organization or (None) of every one. Raises Retryable or Fatal."""
    parameters: dict[str, int | str] = {
        "metric_key": metric_key,
        "org_id": org_id or "",
        "every": int(org_id is None),
    }
    found: dict[str, dict[str, str]] = {"rule": {}, "stamp": {}, "kind": {}}
    for row in client.rows(_SQL, parameters):
        found[row["what"]][row["name"]] = row["value"]
    return SummaryFacts(
        FoldRules.from_rows(found["rule"]),
        found["kind"],
        {int(partition): int(stamp) for partition, stamp in found["stamp"].items()},
    )
