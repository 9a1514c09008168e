"""The text of a token: `mf_<id>_<secret and checksum>`.

The checksum (CRC-32, 6 base-62 digits, of everything before it) tells a mistyped token from a wrong one without a
look-up, and lets secret scanners recognise a leaked one. The secret has 190 random bits and is stored as an HMAC.
"""

from __future__ import annotations

import hmac
import secrets
import string
import zlib
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, Self

from pydantic import SecretStr

__all__ = ["TokenText", "digest"]

_PREFIX: Final = "mf"
_DIGITS: Final = string.digits + string.ascii_letters
_ID_LENGTH: Final = 12
_SECRET_LENGTH: Final = 32
_CHECKSUM_LENGTH: Final = 6


@dataclass(frozen=True, slots=True)
class TokenText:
    """The parts of a token. The secret is never part of a repr."""

    id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls) -> Self:
        return cls(_random(_ID_LENGTH), _random(_SECRET_LENGTH))

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for text that is no token: another form, or a wrong checksum."""
        prefix, _, rest = text.partition("_")
        token_id, _, tail = rest.partition("_")
        secret = tail[:-_CHECKSUM_LENGTH]
        if prefix != _PREFIX or len(token_id) != _ID_LENGTH or len(secret) != _SECRET_LENGTH or not text.isascii():
            return None
        token = cls(token_id, secret)
        return token if hmac.compare_digest(token.text, text) else None

    @property
    def text(self) -> str:
        """What its owner sends."""
        body = f"{_PREFIX}_{self.id}_{self.secret}"
        return body + _base62(zlib.crc32(body.encode()))


def digest(secret: str, key: SecretStr) -> str:
    """The HMAC of a secret, as it is stored."""
    return hmac.new(key.get_secret_value().encode(), secret.encode(), sha256).hexdigest()


def _random(length: int) -> str:
    return "".join(secrets.choice(_DIGITS) for _ in range(length))


def _base62(number: int) -> str:
    text = ""
    for _ in range(_CHECKSUM_LENGTH):
        number, rest = divmod(number, len(_DIGITS))
        text = _DIGITS[rest] + text
    return text
