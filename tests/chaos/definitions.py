"""Definitions that change while windows are judged: thresholds come, go, move, rest; a metric changes its type."""

from __future__ import annotations

import random
from threading import Lock

from chaos.events import FLEX, ORG
from chaos.ground import Ground, persist

_KINDS = ("sum", "max", "last", "count")


class DefinitionChanges:
    """All on one metric of its own; the thresholds of the other one stay as they are."""

    def __init__(self, ground: Ground) -> None:
        self._commands = ground.commands()
        self._ids: list[str] = []
        self._made = 0
        self._lock = Lock()

    def one(self, chance: random.Random) -> str:
        """One command, given again until Kafka and ClickHouse have taken it; what it was."""
        with self._lock:
            drawn = chance.random()
            if not self._ids or (drawn < 0.3 and len(self._ids) < 6):
                return self._create(chance)
            if drawn < 0.5:
                kind = chance.choice(_KINDS)
                persist(lambda: self._commands.update_metric(FLEX, aggregation_type=kind))
                return f"metric is {kind}"
            chosen = chance.choice(self._ids)
            if drawn < 0.75:
                limit = chance.randint(20, 900)
                persist(lambda: self._commands.update_threshold(chosen, threshold=limit))
                return f"threshold is {limit}"
            if drawn < 0.9:
                active = chance.random() < 0.6
                persist(lambda: self._commands.update_threshold(chosen, is_active=active))
                return "threshold works" if active else "threshold rests"
            self._delete(chosen)
            return "threshold deleted"

    def _create(self, chance: random.Random) -> str:
        self._made += 1
        narrow = {"subject_type": "user", "subject_id": f"f{chance.randrange(5)}"} if chance.random() < 0.5 else {}
        # Two names: a narrower threshold takes the place of a wider one of its name.
        values = {
            "name": chance.choice(["flex-a", "flex-b"]),
            "threshold": chance.randint(20, 900) + self._made * 1000 // 1000,
            "period_type": chance.choice(["lifetime", "daily", "hourly"]),
            **narrow,
        }
        made = persist(lambda: self._commands.create_threshold(org_id=ORG, metric_key=FLEX, **values))
        if made.id not in self._ids:
            self._ids.append(made.id)
        return f"threshold {'for one' if narrow else 'for all'} is {values['threshold']}"

    def _delete(self, chosen: str) -> None:
        from meterfold_processor.definitions import DefinitionRefused

        def delete() -> None:
            try:
                self._commands.delete_threshold(chosen)
            except DefinitionRefused:
                return  # the try before this one has done it

        persist(delete)
        self._ids.remove(chosen)
