"""Who sent a token. Rows are remembered for a moment, so that a request costs no query."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable
from datetime import datetime
from threading import Lock
from typing import Final

from meterfold_schemas.errors import MeterfoldError, Retryable
from meterfold_service.access.errors import InvalidToken
from meterfold_service.access.principal import Principal, Scope
from meterfold_service.tokens.operations import Tokens
from meterfold_service.tokens.secrets import TokenText
from meterfold_sink.api_tokens import StoredToken

__all__ = ["FRESH_SECONDS", "USES_SECONDS", "Authentication"]

_LOG = logging.getLogger("meterfold.tokens")

FRESH_SECONDS: Final = 3.0
"""How long a row is used without looking at it again. A revocation applies after this time at the latest."""
STALE_SECONDS: Final = 600.0
"""How long a known row is used while ClickHouse does not answer, which a revocation could not reach either."""
USES_SECONDS: Final = 60.0
MOST_REMEMBERED: Final = 10_000


class Authentication:
    """For any thread. Tokens that do not exist are not remembered, so nobody fills the memory with them."""

    def __init__(
        self, tokens: Tokens, now: Callable[[], datetime], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tokens = tokens
        self._now = now
        self._clock = clock
        self._lock = Lock()
        self._known: dict[str, tuple[StoredToken, float]] = {}
        self._used: set[str] = set()
        self._noted = clock()

    def principal(self, text: str) -> Principal:
        """Raises InvalidToken, InvalidSettings, and Retryable where ClickHouse does not answer about a token that is
        not remembered."""
        token = _parsed(text)
        return self._principal(self._stored(token.id), token)

    def remembered(self, text: str) -> Principal | None:
        """The same without a query; None where that needs one. Raises InvalidToken."""
        token = _parsed(text)
        with self._lock:
            known = self._known.get(token.id)
        if known is None or self._clock() - known[1] >= FRESH_SECONDS:
            return None
        return self._principal(known[0], token)

    def _principal(self, stored: StoredToken | None, token: TokenText) -> Principal:
        digests = self._tokens.digests_of(token.secret)
        if stored is None or not any(hmac.compare_digest(stored.digest, one) for one in digests):
            raise InvalidToken
        return self._allowed(stored)

    def principal_of(self, token_id: str) -> Principal:
        """For a session of the console, which was opened with this token. Raises as `principal`."""
        stored = self._stored(token_id)
        if stored is None:
            raise InvalidToken
        return self._allowed(stored)

    def _allowed(self, stored: StoredToken) -> Principal:
        now = self._now()
        if stored.revoked_at is not None or (stored.expires_at is not None and stored.expires_at <= now):
            raise InvalidToken
        with self._lock:
            self._used.add(stored.id)
        scopes = frozenset(map(Scope, stored.scopes))
        return Principal(stored.name, scopes, stored.org_id, stored.subject, stored.id)

    def note_uses(self) -> None:
        """Store which tokens were used, at most once a minute; to be called now and then. Failures are logged: this is
        information only."""
        with self._lock:
            if not self._used or self._clock() - self._noted < USES_SECONDS:
                return
            ids, self._used, self._noted = self._used, set(), self._clock()
        try:
            self._tokens.note_uses(sorted(ids))
        except MeterfoldError as error:
            _LOG.warning("the last use of %d tokens is not stored: %s", len(ids), error)

    def _stored(self, token_id: str) -> StoredToken | None:
        now = self._clock()
        with self._lock:
            known = self._known.get(token_id)
        if known is not None and now - known[1] < FRESH_SECONDS:
            return known[0]
        try:
            stored = self._tokens.find(token_id)
        except Retryable:
            if known is None or now - known[1] > STALE_SECONDS:
                raise
            return known[0]
        with self._lock:
            if stored is None:
                self._known.pop(token_id, None)
            else:
                if len(self._known) >= MOST_REMEMBERED:
                    self._known.clear()
                self._known[token_id] = (stored, now)
        return stored


def _parsed(text: str) -> TokenText:
    """Raises InvalidToken."""
    token = TokenText.parse(text)
    if token is None:
        raise InvalidToken("the text is not a token: a token begins with mf_ and must be copied as a whole")
    return token
