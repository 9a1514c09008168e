"""`proofs` of Scoped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room

if TYPE_CHECKING:
    from meterfold_service.pages import Page
    from meterfold_service.proofs.operations import Proof

__all__ = ["ScopedProofs"]

_PROOFS = "verifications are"


class ScopedProofs(Room):
    """As Proofs."""

    def list(self, *, limit: int = 20) -> Sequence[Proof]:
        self._need_everything(Scope.READ, _PROOFS)
        return self._metering.proofs.list(limit=limit)

    def page(self, **values: Any) -> Page[Proof]:
        self._need_everything(Scope.READ, _PROOFS)
        return self._metering.proofs.page(**values)

    def get(self, proof_id: str) -> Proof:
        self._need_everything(Scope.READ, _PROOFS)
        return self._metering.proofs.get(proof_id)

    def start(self, *, by: str | None = None) -> Proof:
        self._need_everything(Scope.MANAGE, _PROOFS)
        return self._metering.proofs.start(by=by or self._principal.name)
