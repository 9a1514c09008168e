"""Installations in which a broken rule shows within minutes: where seconds are long, clocks step, or messages are
skipped. Workers that are not broken must do well there, too: `python -m chaos.variants --unbroken`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chaos import clocks

_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Scene:
    """`rules` that differ from the usual ones, by their names in migration.Wanted; by how many seconds one producer's
    clock is `ahead`; whether stamps step (see clocks); and what workers are told beside the usual."""

    rules: Mapping[str, int] = field(default_factory=dict)
    ahead: float = _DAY
    clocks: bool = False
    worker: Mapping[str, Any] = field(default_factory=dict)


USUAL: Final = Scene()
_CLOCKS: Final = Scene(clocks.RULES, ahead=0, clocks=True, worker={"clocks": True})

#: By the names of the variants that need one.
SCENES: Final[dict[str, Scene]] = {
    "04_lookback_with_upper_bound": _CLOCKS,
    "05_lookback_of_the_horizon": Scene(
        {"horizon_seconds": 12, "future_tolerance_seconds": 10, "slack_seconds": 1}, ahead=8
    ),
    "06_loads_from_now": Scene({"horizon_seconds": 4, "future_tolerance_seconds": 1, "slack_seconds": 1}, ahead=0),
    "08_evicts_by_highest_stamp": _CLOCKS,
    "09_stood_before": _CLOCKS,
    "27_believes_holes": Scene(worker={"skips": 0.3}),
}
