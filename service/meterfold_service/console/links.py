"""Links that sign in: once, for a short time, as one token. The text of the token is in no link."""

from __future__ import annotations

import getpass
import secrets
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from meterfold_service.access.errors import InvalidToken
from meterfold_service.access.principal import Scope
from meterfold_service.console.sessions import LONGEST_SECONDS, Signer

if TYPE_CHECKING:
    from meterfold_service.console.spent import Spent
    from meterfold_service.metering import Metering

__all__ = ["LINK_MINUTES", "Links", "link_of", "sign_in_link"]

LINK_MINUTES: Final = 15
_PARTS: Final = 3


class Links:
    """Makes links and redeems them; for any thread."""

    def __init__(self, signer: Signer, spent: Spent, now: Callable[[], float]) -> None:
        self._signer = signer
        self._spent = spent
        self._now = now

    def redeem(self, text: str) -> str:
        """The id of the token to sign in as. Raises InvalidToken for a link that is not ours, too old, or was used."""
        inner = self._signer.opened("link", text)
        parts = [] if inner is None else inner.split(".")
        if len(parts) != _PARTS or int(parts[2]) < self._now():
            raise InvalidToken("this link is not valid or too old; make a new one with `meterfold token link`")
        if not self._spent.claim(f"link.{parts[0]}"):
            raise InvalidToken("this link was used before; make a new one with `meterfold token link`")
        return parts[1]


def link_of(signer: Signer, token_id: str, expires: float) -> str:
    """The text of a link, until `expires` (seconds since 1970)."""
    return signer.seal("link", f"{secrets.token_urlsafe(18)}.{token_id}.{int(expires)}")


def sign_in_link(
    metering: Metering,
    url: str,
    *,
    name: str,
    scopes: Iterable[Scope | str] = (Scope.ADMIN,),
    org_id: str | None = None,
    now: datetime,
) -> str:
    """A link to the console at `url`, and a token for it that expires with the longest session. Raises what
    `metering.tokens.create` raises."""
    lifetime = timedelta(seconds=LONGEST_SECONDS, minutes=LINK_MINUTES)
    created = metering.tokens.create(name=name, scopes=scopes, org_id=org_id, expires_in=lifetime)
    signer = Signer(metering.tokens.key())
    text = link_of(signer, created.token.id, now.timestamp() + 60 * LINK_MINUTES)
    return f"{url.rstrip('/')}/sign-in/link?{urlencode({'link': text})}"


def local_name() -> str:
    """Who asks for a link on this machine."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in a container
        name = "somebody"
    return f"{name} (sign-in link)"
