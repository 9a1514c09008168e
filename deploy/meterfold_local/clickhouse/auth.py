"""Who asks: user and password by headers, basic authentication or URL parameters, never by two of them."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from meterfold_local.clickhouse.errors import QueryError


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The one user of the server."""

    user: str
    password: str = field(repr=False)

    def check(self, headers: Mapping[str, str], params: Mapping[str, str]) -> None:
        """Raise QueryError (516) unless the request carries this user and password. Header names in lower case."""
        user, password = _credentials(headers, params)
        # Both comparisons always run, in constant time.
        same_user = hmac.compare_digest(_raw(user), _raw(self.user))
        same_password = hmac.compare_digest(_raw(password), _raw(self.password))
        if not (same_user and same_password):
            raise QueryError(
                516, f"{user}: Authentication failed: password is incorrect, or there is no user with such name."
            )


def _credentials(headers: Mapping[str, str], params: Mapping[str, str]) -> tuple[str, str]:
    """User and password of a request; without any, `default` and an empty password."""
    by_header = "x-clickhouse-user" in headers or "x-clickhouse-key" in headers
    by_params = "user" in params or "password" in params
    authorization = headers.get("authorization")
    if by_header + by_params + (authorization is not None) > 1:
        raise QueryError(
            516,
            "Invalid authentication: use only one of the X-ClickHouse headers, the Authorization header and URL "
            "parameters",
        )
    if by_header:
        return headers.get("x-clickhouse-user", "default"), headers.get("x-clickhouse-key", "")
    if authorization is None:
        return params.get("user", "default"), params.get("password", "")
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise QueryError(516, f"Invalid authentication: '{scheme}' HTTP Authorization scheme is not supported")
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise QueryError(516, "Invalid authentication: the Authorization header is not base64 of UTF-8") from None
    return user, password


def _raw(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
