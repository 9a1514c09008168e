"""Settings of a fold worker. The settings that decide about events are stored, the same for all workers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from meterfold_schemas.settings import Settings, http_url


class FoldSettings(Settings):
    """Table [fold], variables METERFOLD_FOLD_..."""

    group_id: str = Field(default="meterfold-fold", min_length=1, max_length=200)
    group_protocol: Literal["consumer", "classic"] = "consumer"
    batch_events: int = Field(default=200_000, ge=1, le=2_000_000)
    """Maximum number of events in a batch."""
    batch_seconds: float = Field(default=0.25, gt=0, le=60)
    """How long an event waits for a batch to fill."""
    windows_in_memory: int = Field(default=20_000_000, ge=1_000)
    """Windows that a worker keeps in memory, divided among its partitions: about 80 bytes each, and 80 per subject. The
    ones used longest ago leave first; an event that needs one reads it from ClickHouse."""
    session_timeout_seconds: int = Field(default=30, ge=6, le=300)
    """Session timeout of the classic protocol; with the consumer protocol the broker sets it."""
    stop_seconds: float = Field(default=6.0, ge=0, le=60)
    """How long a stop waits for flushes in progress."""
    traces: bool = False
    """Whether windows are published with the trace of their newest event, for the headers of threshold events."""


class SchemaRegistrySettings(Settings):
    """Table [schema_registry], variables METERFOLD_SCHEMA_REGISTRY_... Without a URL no registry is used."""

    url: str = ""
    """Address of the Confluent API, such as https://registry:8081."""
    username: str = ""
    password: SecretStr = SecretStr("")
    ca_file: str = ""
    """PEM file of the certificate authorities; empty: those of the system."""
    certificate_file: str = ""
    """PEM file of the client certificate, for a registry that asks for one."""
    key_file: str = ""
    """PEM file of its key, if the certificate file does not hold it."""
    timeout_seconds: float = Field(default=3.0, gt=0, le=60)
    """How long a request may take to connect, and to answer."""

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        return http_url(value) if value else value
