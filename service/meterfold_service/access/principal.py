"""Who calls an operation, and what they may do and see."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from meterfold_service.access.errors import Forbidden

__all__ = ["EVERYTHING", "Principal", "Scope"]


class Scope(StrEnum):
    """What a token allows."""

    INGEST = "ingest"
    """Send usage events."""
    READ = "read"
    """Read definitions, usage, alerts and closings."""
    MANAGE = "manage"
    """Change definitions, act on alerts, close periods, send rejected messages again."""
    ADMIN = "admin"
    """Create and revoke tokens, and everything else."""


@dataclass(frozen=True, slots=True)
class Principal:
    """`name` is who acted, in lists and alerts. `org_id` None: every organization; "": subjects without one. `subject`
    (type, id): this subject alone, which goes with an organization and the scope `read`."""

    name: str
    scopes: frozenset[Scope]
    org_id: str | None = None
    subject: tuple[str, str] | None = None
    token_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """`admin` includes the others, `manage` includes `read`."""
        return (
            scope in self.scopes or Scope.ADMIN in self.scopes or (scope is Scope.READ and Scope.MANAGE in self.scopes)
        )

    def need(self, scope: Scope) -> None:
        """Raises Forbidden without the scope."""
        if not self.may(scope):
            raise Forbidden.scope(scope)


EVERYTHING: Final = Principal("local", frozenset({Scope.ADMIN}))
"""Whoever has the passwords of the servers: the command line."""
