"""Definitions that change while windows are judged: thresholds come, go, move, rest; a metric changes its type."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import Any, Final

from chaos.events import FLEX, FLEX_SUBJECTS, ORG
from chaos.ground import Ground, persist
from meterfold_service import ThresholdExists, ThresholdNotFound

CHANGES: Final = ("threshold", "narrower threshold", "other limit", "rest", "newest deleted", "other aggregation")
_AGGREGATIONS: Final = ("sum", "max", "last", "count")
_PERIODS: Final = ("lifetime", "daily", "hourly")
_MOST: Final = 6


@dataclass(frozen=True, slots=True)
class _Made:
    id: str
    name: str
    period_type: str
    org_id: str | None
    subject_id: str | None


class DefinitionChanges:
    """All on one metric of its own; the thresholds of the other one stay as they are."""

    def __init__(self, ground: Ground, notified: Mapping[str, Any] = MappingProxyType({})) -> None:
        """`notified`: whom every threshold notifies."""
        self._notified = notified
        self._metering = ground.metering()
        self._made: list[_Made] = []
        """Those that are there, in the order of their newest versions."""
        self._lock = Lock()

    def one(self, change: str, chance: random.Random) -> str:
        """One of CHANGES, given again until Kafka and ClickHouse have taken it; what it was."""
        with self._lock:
            if change == "other aggregation":
                kind = chance.choice(_AGGREGATIONS)
                persist(lambda: self._metering.metrics.update(FLEX, aggregation_type=kind))
                return f"metric is {kind}"
            if change == "threshold":
                name, org_id = chance.choice(("flex-a", "flex-b", "flex-c")), chance.choice((ORG, None))
                return self._create(chance, name, chance.choice(_PERIODS), org_id, None)
            if not self._made:
                self._create(chance, "flex-a", chance.choice(_PERIODS), None, None)
            if change == "narrower threshold":
                # It takes the place of a wider one of its name: for one subject, or all of the organization.
                over = chance.choice([made for made in self._made if made.subject_id is None] or self._made)
                subject_id = (
                    chance.choice((*FLEX_SUBJECTS, None)) if over.org_id is None else chance.choice(FLEX_SUBJECTS)
                )
                return self._create(chance, over.name, over.period_type, chance.choice((ORG, over.org_id)), subject_id)
            if change == "newest deleted":
                self._delete(self._made[-1])
                return "threshold deleted"
            chosen = chance.choice(self._made)
            if change == "other limit":
                limit = chance.randint(20, 900)
                self._update(chosen, threshold=limit)
                return f"threshold is {limit}"
            active = chance.random() < 0.6
            self._update(chosen, is_active=active)
            return "threshold works" if active else "threshold rests"

    def _create(
        self, chance: random.Random, name: str, period_type: str, org_id: str | None, subject_id: str | None
    ) -> str:
        for made in [
            made for made in self._made if (made.name, made.org_id, made.subject_id) == (name, org_id, subject_id)
        ]:
            self._delete(made)  # two of one name and the same subjects are refused
        if len(self._made) == _MOST:
            self._delete(chance.choice(self._made))
        narrow = {"subject_type": "user", "subject_id": subject_id} if subject_id else {}
        values: dict[str, Any] = {"name": name, "threshold": chance.randint(20, 900), "period_type": period_type}
        values |= self._notified
        try:
            made = persist(lambda: self._metering.thresholds.create(org_id=org_id, metric_key=FLEX, **values, **narrow))
        except ThresholdExists:
            return "threshold is there: an earlier try was not confirmed, and arrived"
        self._made.append(_Made(made.id, name, period_type, org_id, subject_id))
        return f"threshold for {subject_id or 'all'} of {org_id or 'all'} is {values['threshold']}, {period_type}"

    def _update(self, chosen: _Made, **values: Any) -> None:
        persist(lambda: self._metering.thresholds.update(chosen.id, **values))
        self._made.remove(chosen)
        self._made.append(chosen)

    def _delete(self, chosen: _Made) -> None:
        def delete() -> None:
            try:
                self._metering.thresholds.delete(chosen.id)
            except ThresholdNotFound:
                return  # the try before this one has done it

        persist(delete)
        self._made.remove(chosen)
