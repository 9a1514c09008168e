"""The address of the probes, and when a worker counts as stuck."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, field_validator

from meterfold_schemas.settings import Settings

OFF = "off"


class HealthSettings(Settings):
    """Table [health], variables METERFOLD_HEALTH_..."""

    address: str = "127.0.0.1:0"
    """HOST:PORT, or off. Port 0 selects a free port, which the log shows."""
    stall_seconds: float = Field(default=120.0, ge=1, le=86_400)
    """How long a partition may have lag without progress before the worker is unhealthy."""

    @field_validator("address")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        if value != OFF:
            _split(value)
        return value

    @property
    def place(self) -> tuple[str, int] | None:
        """Host and port; None when it is off."""
        return None if self.address == OFF else _split(self.address)


def _split(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != address or "@" in address:
        raise ValueError('give HOST:PORT such as "0.0.0.0:9400" or "[::1]:9400", or "off"')
    return host, port
