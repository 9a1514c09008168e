"""Which metrics are defined, for strict recording: an organization's own definition hides the global one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final, Protocol

from meterfold.errors import MetricNotFound
from meterfold_schemas import framing
from meterfold_schemas.errors import Poison, UnknownSchema
from meterfold_schemas.keys import metric_definition_key

__all__ = ["DefinedMetrics", "MetricCheck"]

_SCHEMA: Final = "metric_defined"
#: Guesses that are remembered: an application that repeats a typo asks for the same one with every event.
_GUESSES: Final = 1_000

Name = tuple[str, str]
"""org_id ("": every organization) and key."""


class MetricCheck(Protocol):
    """What a strict Meter asks about each event."""

    @property
    def is_read(self) -> bool:
        """Whether `wait` would return at once."""

    def wait(self) -> None:
        """Block until the definitions are known. Raises DefinitionsUnavailable."""

    def check(self, org_id: str, metric_key: str) -> None:
        """Raises MetricNotFound unless the metric is defined and active for the organization."""


class DefinedMetrics:
    """The definitions as they are known now. One thread changes them, any thread asks."""

    def __init__(self, active: Iterable[Name] = ()) -> None:
        self._is_active: dict[Name, bool] = dict.fromkeys(active, True)
        self._guesses: dict[Name, str | None] = {}

    @property
    def is_read(self) -> bool:
        return True

    def wait(self) -> None:
        """Nothing to wait for."""

    def check(self, org_id: str, metric_key: str) -> None:
        """Raises MetricNotFound."""
        is_active = self._is_active.get((org_id, metric_key))
        if is_active is None:
            is_active = self._is_active.get(("", metric_key))
        if not is_active:
            raise MetricNotFound(
                metric_key,
                org_id,
                is_inactive=is_active is False,
                similar=None if is_active is False else self._similar(org_id, metric_key),
            )

    def apply(self, key: bytes, value: bytes | None) -> None:
        """One message of metric.defined; None deletes. What cannot be read changes nothing, as in the checker."""
        name = _name(key)
        if name is None:
            return
        if value is None:
            self._is_active.pop(name, None)
        else:
            try:
                schema, record = framing.decode(value)
            except UnknownSchema:  # of a newer version: it is defined, and refusing its usage would lose it
                self._is_active[name] = True
            except Poison:
                return
            else:
                if schema.name != _SCHEMA or (record["org_id"], record["key"]) != name:
                    return
                self._is_active[name] = bool(record["is_active"])
        self._guesses = {}

    def _similar(self, org_id: str, metric_key: str) -> str | None:
        """The defined key that looks most like this one."""
        guesses, name = self._guesses, (org_id, metric_key)
        if name not in guesses:
            if len(guesses) >= _GUESSES:
                guesses.clear()
            visible = {key for org, key in list(self._is_active) if org in ("", org_id)}
            guesses[name] = next(iter(get_close_matches(metric_key, visible, 1)), None)
        return guesses[name]


def _name(key: bytes) -> Name | None:
    try:
        match json.loads(key):
            case [str(org_id), str(name)] if metric_definition_key(org_id, name) == key:
                return org_id, name
    except ValueError:
        pass
    return None
