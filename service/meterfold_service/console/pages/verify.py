"""Verify: start a verification, follow it, and read what it found."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from meterfold_service.access.principal import Scope
from meterfold_service.console import fields
from meterfold_service.console.visit import Visit, page

__all__ = ["ROUTES"]

_TONES: Final = {"proven": "good", "different": "bad", "failed": "bad", "unproven": "warn", "lost": "warn"}
_SHOWN: Final = 20


async def verify(visit: Visit) -> Response:
    rows = await visit.run(visit.may.proofs.list, limit=_SHOWN)
    wanted = fields.text(visit.query, "id")
    proof = await visit.run(visit.may.proofs.get, wanted) if wanted else next(iter(rows), None)
    return visit.render(
        "verify.html",
        rows=rows,
        proof=proof,
        running=proof is not None and proof.state == "running",
        tones=_TONES,
        manages=visit.principal.may(Scope.MANAGE),
    )


async def last(visit: Visit) -> Response:
    """A part of the page, until it is done: then the whole page once more."""
    rows = await visit.run(visit.may.proofs.list, limit=1)
    proof = next(iter(rows), None)
    answer = visit.render("_proof.html", proof=proof, tones=_TONES)
    if proof is None or proof.state != "running":
        answer.headers["HX-Refresh"] = "true"
    return answer


async def start(visit: Visit) -> Response:
    await visit.run(visit.may.proofs.start)
    return visit.go("/verify")


ROUTES = (
    page("/verify", verify),
    page("/verify/last", last),
    page("/verify", start, method="POST"),
)
