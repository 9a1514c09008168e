"""The two meters: Meter and AsyncMeter with a transport that keeps events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from meterfold.async_meter import AsyncMeter
from meterfold.base import BaseMeter
from meterfold.delivery import DeliveryCallback
from meterfold.meter import Meter
from meterfold.metrics import DefinedMetrics
from meterfold.recorder import Recorder
from meterfold.settings import SdkSettings
from meterfold.subjects import Known, Resolver, Resolvers
from meterfold.testing.kept import Kept, KeptEvents

__all__ = ["AsyncInMemoryMeter", "InMemoryMeter"]


class _InMemory(KeptEvents, BaseMeter[Known]):
    """The arguments are those of Meter that decide about an event. Settings are not read.

    `metrics`: as a strict Meter, refuse others than these with MetricNotFound. A key is defined for every organization,
    a pair (org_id, key) for one.
    """

    def __init__(
        self,
        *,
        org_id: str = "",
        resolver: Resolver[Known] | None = None,
        resolvers: Mapping[type[Any], Resolver[Any]] | None = None,
        on_delivery: DeliveryCallback | None = None,
        rounding: Literal["half_even", "half_up"] | None = None,
        horizon_seconds: int | None = None,
        future_tolerance_seconds: int | None = None,
        metrics: Iterable[str | tuple[str, str]] | None = None,
    ) -> None:
        self._kept = Kept(self._callback(on_delivery))
        sdk = SdkSettings(
            org_id=org_id, horizon_seconds=horizon_seconds, future_tolerance_seconds=future_tolerance_seconds
        )
        defined = None
        if metrics is not None:
            defined = DefinedMetrics(("", name) if isinstance(name, str) else name for name in metrics)
        self._begin(Recorder.of(sdk, Resolvers(resolvers, resolver), rounding, defined), self._kept, sdk)


class InMemoryMeter(_InMemory[Known], Meter[Known]):
    """A Meter that keeps what was recorded, for the tests of an application."""


class AsyncInMemoryMeter(_InMemory[Known], AsyncMeter[Known]):
    """An AsyncMeter that keeps what was recorded, for the tests of an application."""
