"""Tokens."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field

from meterfold_service.access.principal import Scope
from meterfold_service.http.models.values import Answer, Body, ListOf, PageQuery, PlainText, Time, flat
from meterfold_service.tokens.operations import CreatedToken

__all__ = ["NewToken", "Token", "TokenContent", "TokenList", "TokenQuery"]


class TokenContent(Body):
    """A token to create."""

    name: PlainText = Field(min_length=1, max_length=200, description="Who uses it.", examples=["billing"])
    scopes: list[Scope] = Field(min_length=1, max_length=4, examples=[["read"]])
    org_id: PlainText | None = Field(
        default=None, description="Only this organization. Default: that of the token used, else every organization."
    )
    subject_type: PlainText | None = Field(
        default=None, description="A token that sees one subject alone: scope `read`, an organization, and an end."
    )
    subject_id: PlainText | None = None
    expires_in: PlainText | None = Field(
        default=None, description="90m, 12h, 7d or 4w. Default: never.", examples=["30d"]
    )


class Token(Answer):
    """A token without its secret."""

    id: str
    name: str
    scopes: list[Scope]
    org_id: str | None = Field(description="Null: every organization.")
    subject_type: str | None
    subject_id: str | None
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None = Field(description="To the minute.")

    @classmethod
    def of(cls, value: Any) -> Self:
        return cls.model_validate(flat(value))


class NewToken(Token):
    """A new token."""

    token: str = Field(description="What its owner sends. It is shown once.")

    @classmethod
    def made(cls, created: CreatedToken) -> Self:
        return cls.model_validate(flat(created.token, token=created.text))


class TokenList(ListOf[Token]):
    """A page of tokens."""


class TokenQuery(PageQuery):
    """Which tokens."""

    org_id: PlainText | None = None
    sort: PlainText | None = Field(
        default=None,
        description="`-created_at` (default), `created_at`, `name` or `-name`.",
        examples=["name"],
    )
