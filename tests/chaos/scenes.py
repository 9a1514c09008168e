"""Installations in which a broken rule shows within minutes: where seconds are long, clocks step, or messages are
skipped. Workers that are not broken must do well there, too: `python -m chaos.variants --unbroken`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chaos.clocks import EXPIRING, RULES, Expiring, Stamped, Stepping
from meterfold_schemas.topics import THRESHOLD_STATE

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Scene:
    """`rules` that differ from the usual ones, by their names in MigrationOptions; by how many seconds one producer's
    clock is `ahead`; who sends events with `stamps` of its own choice, which workers accept then; what they are told
    beside the usual; and, where records expire meanwhile, `refusal`: the words with which a whole worker stops, so that
    there is nothing to compare. Records are `records_seconds` on their way to ClickHouse; a batch has at most
    `batch_events`, and is folded ahead of that once it is full. Topics that are `single` have one copy: no other
    broker takes over while its own one is away. Kafka may lose the end of a transaction then, and a whole worker waits
    for it: of one that does so nothing is asked of what is behind it but that nothing is emitted twice."""

    rules: Mapping[str, int] = field(default_factory=dict)
    ahead: float = _DAY
    stamps: type[Stamped] | None = None
    worker: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = ""
    records_seconds: float = 0.0
    batch_events: int = 120
    single: tuple[str, ...] = ()


USUAL: Final = Scene()
_STEPPING: Final = Scene(RULES, ahead=0, stamps=Stepping)

#: By the names of the variants that need one.
SCENES: Final[dict[str, Scene]] = {
    "04_lookback_with_upper_bound": _STEPPING,
    "05_lookback_of_the_horizon": Scene(
        {"horizon_seconds": 12, "future_tolerance_seconds": 10, "slack_seconds": 1}, ahead=8
    ),
    "06_never_refuses_expired": Scene(EXPIRING, ahead=0, stamps=Expiring, refusal="have expired"),
    "06_loads_from_now": Scene({"horizon_seconds": 4, "future_tolerance_seconds": 1, "slack_seconds": 1}, ahead=0),
    "07_forgets_unacknowledged": Scene(records_seconds=0.4, batch_events=15),
    "08_evicts_by_highest_stamp": _STEPPING,
    "09_stood_before": _STEPPING,
    "27_believes_holes": Scene(worker={"skips": 0.3}),
    "27_committed_ends": Scene(single=(THRESHOLD_STATE,)),
}
