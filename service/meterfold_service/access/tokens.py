"""`tokens` and `settings` of Scoped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from meterfold_service.access.errors import TokenNotFound
from meterfold_service.access.principal import Scope
from meterfold_service.access.room import Room

if TYPE_CHECKING:
    from meterfold_service.pages import Page
    from meterfold_service.settings.operations import SettingsView
    from meterfold_service.tokens.operations import CreatedToken, Token

__all__ = ["ScopedSettings", "ScopedTokens"]


class ScopedTokens(Room):
    """As Tokens. An administrator of one organization creates, sees and revokes its tokens alone, with scopes that it
    has itself."""

    def create(
        self,
        *,
        name: str,
        scopes: Iterable[Scope | str],
        org_id: str | None = None,
        subject: tuple[str, str] | None = None,
        expires_in: timedelta | None = None,
    ) -> CreatedToken:
        self._need(Scope.ADMIN)
        wanted = tuple(scopes)
        for scope in wanted:
            if scope in tuple(Scope):
                self._principal.need(Scope(scope))
        return self._metering.tokens.create(
            name=name, scopes=wanted, org_id=self._org(org_id), subject=subject, expires_in=expires_in
        )

    def list(self, *, org_id: str | None = None, **values: Any) -> Page[Token]:
        self._need(Scope.ADMIN)
        return self._metering.tokens.list(org_id=self._org(org_id), **values)

    def revoke(self, token_id: str) -> Token:
        self._need(Scope.ADMIN)
        if self._own is not None:
            stored = self._metering.tokens.find(token_id)
            if stored is None or stored.org_id != self._own:
                raise TokenNotFound(token_id)
        return self._metering.tokens.revoke(token_id)


class ScopedSettings(Room):
    """As StoredSettings, to read."""

    def show(self) -> SettingsView:
        self._need_everything(Scope.READ, "settings are")
        return self._metering.settings.show()
