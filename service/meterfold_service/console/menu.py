"""The pages, and who may see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meterfold_service.access.principal import Principal, Scope

__all__ = ["MENU", "Entry", "entries"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the menu. `scope`: what a token needs for it. `whole`: only for tokens of every organization."""

    path: str
    label: str
    group: str
    scope: Scope = Scope.READ
    whole: bool = False


MENU: Final = (
    Entry("/", "Overview", "Usage", whole=True),
    Entry("/usage", "Usage", "Usage"),
    Entry("/subjects", "Subjects", "Usage"),
    Entry("/metrics", "Metrics", "Rules"),
    Entry("/thresholds", "Thresholds", "Rules"),
    Entry("/alerts", "Alerts", "Rules"),
    Entry("/deliveries", "Deliveries", "Rules"),
    Entry("/periods", "Periods", "Proof"),
    Entry("/verify", "Verify", "Proof", whole=True),
    Entry("/rejected", "Rejected", "Proof"),
    Entry("/tokens", "Tokens", "Access", Scope.ADMIN),
)


def entries(who: Principal | None) -> Sequence[Entry]:
    """The pages of a person. A token of one subject sees its usage alone."""
    if who is None:
        return ()
    if who.subject is not None:
        return (Entry("/", "Usage", "Usage"),)
    return [one for one in MENU if who.may(one.scope) and (who.org_id is None or not one.whole)]
