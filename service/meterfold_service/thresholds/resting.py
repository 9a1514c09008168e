"""Why a threshold judges nothing now, and what else people should know who rely on it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from meterfold_schemas.plurals import listed, noun
from meterfold_service.thresholds.scope import watched

if TYPE_CHECKING:
    from meterfold_sink.thresholds import Definers, Rival

__all__ = ["Condition", "condition"]

_NONE: Final[tuple[int, list[Rival]]] = (0, [])


@dataclass(frozen=True, slots=True)
class Condition:
    """`resting`: why it judges nothing, None where it judges. `notes`: what limits it, or judges beside it."""

    resting: str | None
    notes: tuple[str, ...] = ()


def condition(
    row: Mapping[str, Any],
    definers: Definers,
    narrower: tuple[int, list[Rival]] = _NONE,
    same: tuple[int, list[Rival]] = _NONE,
) -> Condition:
    """Of a row of the table thresholds. `narrower` and `same`: how many thresholds replace and double it, and some."""
    if not row["is_active"]:
        return Condition("the threshold is inactive")
    key, org_id = row["metric_key"], row["org_id"]
    active = definers.by_org.get(org_id or "", definers.by_org.get(""))
    trouble = f"metric {key} is not defined" if active is None else f"metric {key} is inactive"
    if org_id and (org_id in definers.by_org or (active is None and definers.own)):
        trouble += f" for organization {org_id}"
    notes = []
    if not active:
        if org_id is not None or not definers.own:
            return Condition(trouble)
        notes.append(f"{trouble} for every organization: only {_some(definers.own, definers.some)} watched")
    if narrower[0]:
        notes.append(f"replaced by narrower thresholds of the same name: {_shown(narrower)}")
    if same[0]:
        notes.append(f"has the name and subjects of {_shown(same, with_scope=False)}: both judge, so delete one")
    return Condition(None, tuple(notes))


def _some(count: int, names: tuple[str, ...]) -> str:
    return f"{listed(names, count)}, which {noun(count, 'defines', 'define')} it, {noun(count, 'is', 'are')}"


def _shown(rivals: tuple[int, list[Rival]], *, with_scope: bool = True) -> str:
    count, some = rivals
    shown = [
        f"{rival.id} ({watched(rival.org_id, rival.subject_type, rival.subject_id)})" if with_scope else rival.id
        for rival in some
    ]
    return listed(shown, count)
