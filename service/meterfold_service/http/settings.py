"""Settings of the HTTP server: table [http], variables METERFOLD_HTTP_..."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from meterfold_schemas.settings import Settings

__all__ = ["HttpSettings"]

_KEY_LENGTH = 32


def _words(value: Any) -> Any:
    """A variable of the environment has them in one text, with commas."""
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


class HttpSettings(Settings):
    """Table [http], variables METERFOLD_HTTP_..."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """The address that the server listens on. Other machines reach it only on another address than this one."""
    port: int = Field(default=8888, ge=0, le=65_535)
    """0: a free port."""
    token_key: SecretStr | None = None
    """Key of the HMAC under which tokens are stored: 32 or more random characters, the same for every process. To
    change it, give the new key and, behind a comma, the old one, until every token of the old one is replaced."""
    wait_seconds: float = Field(default=30.0, ge=0.1, le=300)
    """How long an operation waits for ClickHouse to show a definition, or for the fold to reach a delivery."""
    call_seconds: float = Field(default=1.5, ge=0.1, le=60)
    """How long ClickHouse may take to accept a connection, and Kafka to answer a call, before a request gets 503."""
    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)
    """The most bytes of the body of a request, before and after decompression; 413 beyond."""
    body_seconds: float = Field(default=30.0, ge=1, le=600)
    """How long a body may take to arrive; 408 beyond."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    """Names of this server in the header Host, without the port; others get 421. Empty: any."""
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    """Origins such as https://app.example.com whose pages may call the API from a browser. Empty: none."""
    threads: int = Field(default=16, ge=1, le=256)
    """Queries that run at the same time, and changes that do; others wait."""
    exports: int = Field(default=4, ge=1, le=64)
    """Exports that run at the same time; others are refused for the moment. Each holds a connection to ClickHouse."""

    max_events: int = Field(default=10_000, ge=1, le=1_000_000)
    """The most events of one request."""
    delivery_seconds: float = Field(default=10.0, ge=1, le=600)
    """How long a request with events waits until every in-sync replica has them."""
    strict: bool = False
    """True: usage of metrics that are not defined or not active is refused."""

    @field_validator("token_key")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and any(len(key) < _KEY_LENGTH for key in value.get_secret_value().split(",")):
            raise ValueError(f"give {_KEY_LENGTH} or more random characters; `openssl rand -hex 32` makes some")
        return value

    @property
    def token_keys(self) -> tuple[SecretStr, ...]:
        """The newest first."""
        return () if self.token_key is None else tuple(map(SecretStr, self.token_key.get_secret_value().split(",")))

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
                raise ValueError(f"{origin!r} is not an origin such as https://app.example.com")
        return value
