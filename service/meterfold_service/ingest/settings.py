"""The settings of the SDK as the HTTP server uses them."""

from __future__ import annotations

from typing import Final

from meterfold.settings import SdkSettings
from meterfold_schemas.settings import load_settings
from meterfold_schemas.settings_sources import Sources
from meterfold_service.http.settings import HttpSettings

__all__ = ["sdk_settings"]


_CLOSE_SECONDS: Final = 1.0
"""Requests that are answered have their reports before the server ends; nobody waits for what is left."""


def sdk_settings(sources: Sources) -> SdkSettings:
    """[sdk], where [http] does not say otherwise. Raises InvalidSettings."""
    http = load_settings(HttpSettings, "http", sources=sources)
    sdk = load_settings(SdkSettings, "sdk", sources=sources)
    return sdk.model_copy(
        update={
            "delivery_timeout": http.delivery_seconds,
            "close_timeout": _CLOSE_SECONDS,
            "strict": sdk.strict or http.strict,
        }
    )
