"""Collections happen when asked for, and only then."""

from __future__ import annotations

import gc
import platform
import weakref

import psutil
import pytest

from meterfold_processor.garbage import PausedGC


class Knot:
    """Refers to itself: only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def tie() -> weakref.ref[Knot]:
    return weakref.ref(Knot())


def test_nothing_is_collected_until_it_is_time() -> None:
    with PausedGC(pause_seconds=3600) as garbage:
        assert not gc.isenabled()
        knot = tie()
        assert not garbage.collect()
        assert knot() is not None


def test_what_is_in_cycles_goes_when_it_is_time() -> None:
    with PausedGC(pause_seconds=0) as garbage:
        knot = tie()
        assert garbage.collect()
        assert knot() is None


def test_what_was_there_before_is_collected_afterwards() -> None:
    with PausedGC(pause_seconds=0) as garbage:
        inside = tie()
        garbage.collect()
    before = tie()
    gc.collect()
    assert inside() is None
    assert before() is None
    assert gc.get_freeze_count() == 0


def test_freed_memory_goes_back_to_the_system() -> None:
    """Also below a block that is still in use."""
    process = psutil.Process()
    with PausedGC(pause_seconds=0) as garbage:
        blocks = [b"%d" % number * 400 for number in range(100_000)]
        kept = blocks[-1]
        del blocks
        before = process.memory_info().rss
        garbage.collect()
        given = before - process.memory_info().rss
    assert kept.startswith(b"99999")
    if platform.libc_ver()[0] == "glibc":
        assert given > 100_000_000


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_left_as_it_was(enabled: bool) -> None:
    try:
        if not enabled:
            gc.disable()
        with pytest.raises(KeyError), PausedGC():
            raise KeyError
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
