"""/v1/tokens"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from meterfold_service.access.principal import Scope
from meterfold_service.http.context import Caller, needs
from meterfold_service.http.models.tokens import NewToken, Token, TokenContent, TokenList, TokenQuery
from meterfold_service.http.parsing import lifetime_of, subject_of
from meterfold_service.http.responses import NOT_FOUND

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


@router.post("", status_code=201)
async def create(body: TokenContent, caller: Annotated[Caller, needs(Scope.ADMIN)]) -> NewToken:
    """Create a token. Its text is shown once."""
    created = await caller.change(
        caller.may.tokens.create,
        name=body.name,
        scopes=body.scopes,
        org_id=body.org_id,
        subject=subject_of(body),
        expires_in=lifetime_of(body.expires_in),
    )
    return NewToken.made(created)


@router.get("")
async def list_(query: Annotated[TokenQuery, Query()], caller: Annotated[Caller, needs(Scope.ADMIN)]) -> TokenList:
    """List tokens without their secrets, the newest first; revoked and expired ones too."""
    page = await caller.run(caller.may.tokens.list, org_id=query.org_id, sort=query.sort, **query.page)
    return TokenList(data=[Token.of(one) for one in page.rows], next_cursor=page.cursor, total=page.total)


@router.post("/{token_id}/revoke", responses=NOT_FOUND)
async def revoke(token_id: str, caller: Annotated[Caller, needs(Scope.ADMIN)]) -> Token:
    """Revoke a token. Every server refuses it within 5 seconds."""
    return Token.of(await caller.change(caller.may.tokens.revoke, token_id))
