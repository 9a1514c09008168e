"""Errors of callers who are unknown or may not do what they ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meterfold_service.errors import OperationError

if TYPE_CHECKING:
    from meterfold_service.access.principal import Scope

__all__ = ["Forbidden", "InvalidToken", "TokenNotFound"]


class InvalidToken(OperationError):
    """The token is missing, mistyped, unknown, revoked or expired. The text does not say which of the last four."""

    code = "INVALID_TOKEN"

    def __init__(self, text: str = "the token is not valid: it is unknown, revoked or expired") -> None:
        super().__init__(text)


class Forbidden(OperationError):
    """The caller may not do this, or not for this organization or subject."""

    code = "FORBIDDEN"

    @classmethod
    def scope(cls, scope: Scope) -> Forbidden:
        return cls(f"this token lacks the scope {scope.value!r}; ask an administrator for one that has it")


class TokenNotFound(OperationError):
    """No token has this id."""

    code = "TOKEN_NOT_FOUND"

    def __init__(self, token_id: str) -> None:
        super().__init__(f"token {token_id!r} does not exist; `meterfold token list` shows those that do")
        self.token_id = token_id
