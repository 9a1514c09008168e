"""pytest fixtures, for those who ask for them in a conftest.py:

from meterfold.testing.pytest_plugin import in_memory_meter, in_memory_async_meter

or, in the topmost one, `pytest_plugins = ["meterfold.testing.pytest_plugin"]`.
"""

from __future__ import annotations

import pytest

from meterfold.testing.meters import AsyncInMemoryMeter, InMemoryMeter

__all__ = ["in_memory_async_meter", "in_memory_meter"]


@pytest.fixture
def in_memory_meter() -> InMemoryMeter:
    """A new InMemoryMeter for each test."""
    return InMemoryMeter()


@pytest.fixture
def in_memory_async_meter() -> AsyncInMemoryMeter:
    """A new AsyncInMemoryMeter for each test."""
    return AsyncInMemoryMeter()
