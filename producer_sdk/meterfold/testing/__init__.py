"""Meters for the tests of an application: they check events exactly as the real ones do, and keep them.

    from meterfold.testing import InMemoryMeter

    meter = InMemoryMeter()
    application(meter)
    meter.assert_recorded("api.calls", ("user", "ada"), 3)
    assert meter.total("api.calls") == 7

They need no broker and read no settings. The pytest fixtures `in_memory_meter` and `in_memory_async_meter` are in
meterfold.testing.pytest_plugin.
"""

from __future__ import annotations

from meterfold.testing.meters import AsyncInMemoryMeter, InMemoryMeter

__all__ = ["AsyncInMemoryMeter", "InMemoryMeter"]
