"""What `make soak` calls creeping, and its picture."""

from __future__ import annotations

import random
import sys
from xml.etree import ElementTree

import pytest

from support.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))

from soak_curves import Curve, Limit, Sample, curves, draw

HOUR = range(0, 3600, 5)
LIMIT = Limit(per_hour=50.0, noise=60.0, unit="parts")


def curve(values: list[float]) -> Curve:
    return Curve("parts", tuple(zip(map(float, HOUR), values, strict=False)), LIMIT)


def test_a_steady_curve_does_not_creep_whatever_it_does_at_the_start() -> None:
    noise = random.Random(7)
    steady = [100 + noise.uniform(-30, 30) for _ in HOUR]
    filling = [value * min(1.0, (at + 1) / 500) for at, value in zip(HOUR, steady, strict=True)]
    assert not curve(steady).creeps()
    assert not curve(filling).creeps()


def test_the_moments_of_a_restart_do_not_decide() -> None:
    values = [100.0 if at % 300 > 20 else 5_000.0 + at for at in HOUR]
    growth, _ = curve(values).growth() or (1e9, 0.0)
    assert abs(growth) < 1
    assert not curve(values).creeps()


def test_slow_growth_creeps() -> None:
    noise = random.Random(7)
    growing = [100 + at / 3600 * 200 + noise.uniform(-30, 30) for at in HOUR]
    growth, allowed = curve(growing).growth() or (0.0, 0.0)
    # Five sixths of the hour are judged: ten minutes are the warm-up.
    assert growth == pytest.approx(200 * 5 / 6, rel=0.05)
    assert allowed == pytest.approx(60 + 50 * 5 / 6, rel=0.01)
    assert curve(growing).creeps()


def test_a_short_run_is_not_judged() -> None:
    assert curve([1.0, 1e9, 2e9]).growth() is None
    assert not curve([1.0, 1e9, 2e9]).creeps()


def samples(leak: float, rate: int) -> list[Sample]:
    """Workers remember 8 bytes per event; `leak`: bytes per event beyond that, of the checker."""
    return [
        Sample(
            float(at),
            {"workers": round(1e9 + 8 * rate * at), "checker": round(3e8 + leak * rate * at), "Kafka": 350_000_000},
            1_000,
            80,
            0.5 if at % 10 else None,
            1.0 if at % 10 else None,
        )
        for at in HOUR
    ]


def test_the_memory_of_identities_is_no_leak_and_another_is() -> None:
    assert [one.name for one in curves(samples(0, 20_000), 20_000) if one.creeps()] == []
    assert [one.name for one in curves(samples(3, 20_000), 20_000) if one.creeps()] == ["memory of checker"]


def test_the_picture_has_a_line_per_curve_and_the_restarts() -> None:
    found = curves(samples(0, 100), 100)
    root = ElementTree.fromstring(draw(found, [600.0, 1200.0], "100 events/s & restarts"))  # noqa: S314
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}polyline")) == len(found) == 7
    dashed = [line for line in root.findall(f"{space}line") if line.attrib["class"] == "restart"]
    assert len(dashed) == 2 * 4, "two restarts in each of the panels memory, lag, parts and latency"
