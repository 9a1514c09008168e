"""`metering.tokens`: create, list, revoke, and who a token is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from meterfold_schemas.errors import InvalidDefinition, InvalidSettings
from meterfold_schemas.periods import micros
from meterfold_service.access.errors import TokenNotFound
from meterfold_service.access.principal import Scope
from meterfold_service.pages import Page, RowOrder, check_page
from meterfold_service.settings.durations import duration_seconds
from meterfold_service.tokens.secrets import TokenText, digest
from meterfold_sink import api_tokens
from meterfold_sink.api_tokens import StoredToken

if TYPE_CHECKING:
    from pydantic import SecretStr

    from meterfold_sink.pool import ClientPool

__all__ = ["CreatedToken", "Token", "Tokens", "lifetime"]

_NAME_LENGTH: Final = 200
_LONGEST_SECONDS: Final = 100 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret. `org_id` None: every organization. `subject`: it sees this subject alone."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    org_id: str | None
    subject: tuple[str, str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class CreatedToken:
    """A new token. `text` is what its owner sends; it is shown once and cannot be read again."""

    token: Token
    text: str = field(repr=False)


def lifetime(text: str) -> timedelta | None:
    """The time that a text such as 90m, 12h, 7d or 4w means; None for other text, and for more than 100 years."""
    seconds = duration_seconds(text)
    return None if seconds is None or seconds > _LONGEST_SECONDS else timedelta(seconds=seconds)


class Tokens:
    """The operations on tokens; for any thread. Every one raises Retryable or Fatal, and what it says itself."""

    def __init__(
        self, clients: ClientPool, keys: Callable[[], Sequence[SecretStr]], now: Callable[[], datetime]
    ) -> None:
        """`keys` of the HMAC, the newest first, which new tokens are stored under."""
        self._clients = clients
        self._keys = keys
        self._now = now

    def create(
        self,
        *,
        name: str,
        scopes: Iterable[Scope | str],
        org_id: str | None = None,
        subject: tuple[str, str] | None = None,
        expires_in: timedelta | None = None,
    ) -> CreatedToken:
        """A token for an application, a person, or with `subject` for a customer's page. Raises InvalidDefinition, and
        InvalidSettings without [http] token_key."""
        now = self._now()
        stored = StoredToken(
            id="",
            version=micros(now),
            digest="",
            name=_named(name),
            scopes=tuple(scope.value for scope in _scopes(scopes)),
            org_id=org_id,
            subject_type=None if subject is None else subject[0],
            subject_id=None if subject is None else subject[1],
            created_at=now,
            expires_at=None if expires_in is None else now + expires_in,
            revoked_at=None,
        )
        _check(stored)
        text = TokenText.new()
        stored = replace(stored, id=text.id, digest=digest(text.secret, self._secret_keys()[0]))
        with self._clients.client() as client:
            api_tokens.write_token(client, stored)
        return CreatedToken(_token(stored), text.text)

    def list(
        self,
        *,
        org_id: str | None = None,
        sort: str | None = None,
        limit: int = 100,
        offset: int = 0,
        cursor: str | None = None,
    ) -> Page[Token]:
        """The newest first, or by `sort`: created_at or name, with a minus sign in reverse; revoked and expired ones
        too. Raises InvalidUsage for a wrong page."""
        check_page(limit, offset)
        order = RowOrder("tokens", api_tokens.TOKEN_SORTS, "-created_at")
        keys, after = order.start(sort, cursor)
        with self._clients.client() as client:
            page = api_tokens.list_tokens(client, keys, org_id=org_id, limit=limit, offset=offset, after=after)
        return Page(page.total, tuple(map(_token, page.rows)), cursor=order.cursor(sort, page.end))

    def revoke(self, token_id: str) -> Token:
        """Every process refuses the token within 5 seconds. Safe to repeat. Raises TokenNotFound."""
        with self._clients.client() as client:
            known = api_tokens.read_token(client, token_id)
            if known is None:
                raise TokenNotFound(token_id)
            if known.revoked_at is None:
                now = self._now()
                known = replace(known, version=max(micros(now), known.version + 1), revoked_at=now)
                api_tokens.write_token(client, known)
        return _token(known)

    def find(self, token_id: str) -> StoredToken | None:
        """The stored row, for `Authentication`."""
        with self._clients.client() as client:
            return api_tokens.read_token(client, token_id)

    def note_uses(self, ids: Iterable[str]) -> None:
        """These tokens were used just now."""
        with self._clients.client() as client:
            api_tokens.note_uses(client, list(ids), self._now())

    def digests_of(self, secret: str) -> tuple[str, ...]:
        """What may be stored for a secret: under the key of today, and under earlier ones. Raises InvalidSettings."""
        return tuple(digest(secret, key) for key in self._secret_keys())

    def key(self) -> SecretStr:
        """The newest key. Raises InvalidSettings where none is configured."""
        return self._secret_keys()[0]

    def _secret_keys(self) -> Sequence[SecretStr]:
        keys = self._keys()
        if not keys:
            raise InvalidSettings(
                "tokens need a key: set METERFOLD_HTTP_TOKEN_KEY (or token_key under [http]) to 32 or more random "
                "characters, the same for every process; `openssl rand -hex 32` makes one"
            )
        return keys


def _named(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= _NAME_LENGTH or not name.isprintable():
        raise InvalidDefinition(f"name must have 1 to {_NAME_LENGTH} printable characters")
    return name


def _scopes(scopes: Iterable[Scope | str]) -> list[Scope]:
    try:
        found = sorted({Scope(scope) for scope in scopes})
    except ValueError as error:
        raise InvalidDefinition(f"{error}: scopes are {', '.join(Scope)}") from None
    if not found:
        raise InvalidDefinition(f"give at least one scope: {', '.join(Scope)}")
    return found


def _check(token: StoredToken) -> None:
    if token.expires_at is not None and token.expires_at <= token.created_at:
        raise InvalidDefinition("a token must expire in the future")
    if token.subject_type is None:
        return
    if token.org_id is None:
        raise InvalidDefinition("a token of a subject needs its organization; empty is a subject without one")
    if token.scopes != (Scope.READ.value,):
        raise InvalidDefinition("a token of a subject can only have the scope read")
    if token.expires_at is None:
        raise InvalidDefinition("a token of a subject must expire: give expires_in")


def _token(stored: StoredToken) -> Token:
    return Token(
        stored.id,
        stored.name,
        tuple(map(Scope, stored.scopes)),
        stored.org_id,
        stored.subject,
        stored.created_at,
        stored.expires_at,
        stored.revoked_at,
        stored.last_used_at,
    )
