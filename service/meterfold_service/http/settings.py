"""Settings of the HTTP server: table [http], variables METERFOLD_HTTP_..."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from meterfold_schemas.settings import Settings

__all__ = ["HttpSettings"]

_KEY_LENGTH = 32


class HttpSettings(Settings):
    """Table [http], variables METERFOLD_HTTP_..."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """The address that the server listens on. Other machines reach it only on another address than this one."""
    port: int = Field(default=8888, ge=0, le=65_535)
    """0: a free port."""
    token_key: SecretStr | None = None
    """Key of the HMAC under which tokens are stored: 32 or more random characters, the same for every process. A new
    key makes all tokens invalid."""
    wait_seconds: float = Field(default=30.0, ge=0.1, le=300)
    """How long an operation waits for ClickHouse to show a definition, or for the fold to reach a delivery."""
    threads: int = Field(default=16, ge=1, le=256)
    """Queries that run at the same time, and changes that do; others wait."""
    exports: int = Field(default=4, ge=1, le=64)
    """Exports that run at the same time; others are refused for the moment. Each holds a connection to ClickHouse."""

    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, le=1024 * 1024 * 1024)
    """The largest body of a request with events, before and after decompression."""
    max_events: int = Field(default=10_000, ge=1, le=1_000_000)
    """The most events of one request."""
    body_seconds: float = Field(default=30.0, ge=0.1, le=3600)
    """How long the body of a request with events may take to arrive."""
    delivery_seconds: float = Field(default=10.0, ge=1, le=600)
    """How long a request with events waits until every in-sync replica has them."""
    strict: bool = False
    """True: usage of metrics that are not defined or not active is refused."""

    @field_validator("token_key")
    @classmethod
    def _long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < _KEY_LENGTH:
            raise ValueError(f"give {_KEY_LENGTH} or more random characters; `openssl rand -hex 32` makes some")
        return value
