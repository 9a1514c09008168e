"""/v1/proofs"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.bodies import NO_NULL
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.proofs import Proof, ProofList, ProofRequest
from meterfold_service.http.models.values import PageQuery
from meterfold_service.http.responses import NOT_FOUND

router = APIRouter(prefix="/v1/proofs", tags=["proofs"])


@router.post("", status_code=202, dependencies=[NO_NULL])
async def start(caller: Annotated[Caller, needs(Scope.MANAGE)], body: ProofRequest | None = None) -> Proof:
    """Start a verification of everything, and answer while it runs. Where one is running, the answer is that one."""
    return Proof.of(await caller.change(caller.may.proofs.start, by=None if body is None else body.by))


@router.get("")
async def list_(query: Annotated[PageQuery, Query()], caller: Annotated[Caller, needs(Scope.READ)]) -> ProofList:
    """List verifications, the newest first."""
    page = await caller.run(caller.may.proofs.page, **query.page)
    return ProofList(data=[Proof.of(one) for one in page.rows], next_cursor=page.cursor, total=page.total)


@router.get("/{proof_id}", responses=NOT_FOUND)
async def get(proof_id: str, caller: Annotated[Caller, needs(Scope.READ)]) -> Proof:
    """Show a verification, and what it found."""
    return Proof.of(await caller.run(caller.may.proofs.get, proof_id))
