"""Signatures of webhooks as Standard Webhooks 1.0 says, and the secret of each endpoint.

An endpoint's secret is HMAC-SHA256 of its URL under an installation's secret: no receiver can sign for another one, and
nothing has to be stored. While a secret is rotated, every one of the installation's secrets signs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import SecretStr

__all__ = ["endpoint_secrets", "headers", "new_secret"]

_START: Final = "whsec_"
_PURPOSE: Final = b"meterfold webhook endpoint 1\n"


def new_secret() -> str:
    """A fresh secret of 32 random bytes."""
    return _START + base64.b64encode(secrets.token_bytes(32)).decode("ascii")


def endpoint_secrets(installation: Sequence[SecretStr], url: str) -> tuple[SecretStr, ...]:
    """What the receiver at `url` verifies with, the newest first."""
    made = (hmac.digest(_key(secret), _PURPOSE + url.encode(), hashlib.sha256) for secret in installation)
    return tuple(SecretStr(_START + base64.b64encode(key).decode("ascii")) for key in made)


def headers(endpoint: Sequence[SecretStr], message_id: str, at: datetime, body: bytes) -> list[tuple[str, str]]:
    """The three headers of one try. `at` is an aware datetime: that of the try."""
    if at.tzinfo is None:
        raise ValueError("the time of a signature must be a timezone-aware datetime")
    stamp = str(int(at.timestamp()))
    text = f"{message_id}.{stamp}.".encode() + body
    signatures = (
        "v1," + base64.b64encode(hmac.digest(_key(secret), text, hashlib.sha256)).decode("ascii") for secret in endpoint
    )
    return [("webhook-id", message_id), ("webhook-timestamp", stamp), ("webhook-signature", " ".join(signatures))]


def _key(secret: SecretStr) -> bytes:
    return base64.b64decode(secret.get_secret_value().removeprefix(_START))
