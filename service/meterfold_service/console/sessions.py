"""Sessions: who a browser is, in a signed cookie, and the CSRF token of its forms.

A session holds the id of the token that it was opened with, never the token. Each request looks the token up, so a
session ends with its token. Before a sign-in it has no token: forms have a CSRF token there too. A sign-in makes a new
session with a new id, whatever the browser had.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Self

from pydantic import SecretStr

__all__ = ["IDLE_SECONDS", "LONGEST_SECONDS", "RENEW_SECONDS", "Session", "Signer"]

IDLE_SECONDS: Final = 2 * 3600
"""A session ends after this time without a request."""
LONGEST_SECONDS: Final = 12 * 3600
"""A session ends after this time in any case."""
RENEW_SECONDS: Final = 300
"""A request renews a cookie that is older than this."""
_PARTS: Final = 4


class Signer:
    """HMAC with keys that are derived from the token key, one for each use."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key.get_secret_value().encode()

    def sign(self, use: str, text: str) -> str:
        own = hmac.new(self._key, b"meterfold console " + use.encode(), sha256).digest()
        return hmac.new(own, text.encode(), sha256).hexdigest()

    def seal(self, use: str, text: str) -> str:
        """Text with its signature."""
        return f"{text}.{self.sign(use, text)}"

    def opened(self, use: str, sealed: str) -> str | None:
        """The text; None if the signature is not ours."""
        text, _, signature = sealed.rpartition(".")
        if not sealed.isascii() or not hmac.compare_digest(signature, self.sign(use, text)):
            return None
        return text


@dataclass(frozen=True, slots=True)
class Session:
    """`began` and `seen` in seconds since 1970. `token_id` empty: nobody has signed in."""

    id: str
    token_id: str
    began: int
    seen: int

    @classmethod
    def new(cls, now: float, token_id: str = "") -> Self:
        return cls(secrets.token_urlsafe(24), token_id, int(now), int(now))

    @classmethod
    def read(cls, cookie: str | None, signer: Signer, now: float) -> Self | None:
        """None for a cookie that is not ours, or whose time is over."""
        text = None if cookie is None else signer.opened("session", cookie)
        parts = [] if text is None else text.split(".")
        if len(parts) != _PARTS:
            return None
        session = cls(parts[0], parts[1], int(parts[2]), int(parts[3]))
        if now - session.seen > IDLE_SECONDS or now - session.began > LONGEST_SECONDS:
            return None
        return session

    def cookie(self, signer: Signer) -> str:
        return signer.seal("session", f"{self.id}.{self.token_id}.{self.began}.{self.seen}")

    def csrf(self, signer: Signer) -> str:
        """What each form of this session sends."""
        return signer.sign("csrf", self.id)

    def renewed(self, now: float) -> Self:
        """This session as it is to be stored now; the same one if that is not needed yet."""
        return replace(self, seen=int(now)) if now - self.seen > RENEW_SECONDS else self
