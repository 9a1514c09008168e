"""What `make soak` samples, when a curve creeps, and the curves as one picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

WARM_UP_SECONDS: Final = 600.0
"""The first ten minutes fill caches and heaps, and are not judged; a run that is hardly longer judges no curve."""
LEAST_SAMPLES: Final = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """At `at` seconds after the start. Memory in bytes by process; `lag` in events; `p50` and `p99` of the seconds from
    an event to its threshold.exceeded since the sample before, None where none arrived; `restarted`: the process that
    was restarted since then."""

    at: float
    memory: dict[str, int]
    lag: int
    parts: int
    p50: float | None
    p99: float | None
    restarted: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a curve may grow: `per_hour`, and `noise`, by which two samples may differ without meaning anything."""

    per_hour: float
    noise: float
    unit: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve with its limit: points are (seconds, value)."""

    name: str
    points: tuple[tuple[float, float], ...]
    limit: Limit

    def growth(self) -> tuple[float, float] | None:
        """(growth after the warm-up, what it may be), None if there are too few samples. The growth is the slope times
        the time; the slope is the median of those between all pairs of points (Theil and Sen), so that the moments of a
        restart do not decide."""
        points = [point for point in self.points if point[0] >= WARM_UP_SECONDS]
        if len(points) < LEAST_SAMPLES:
            return None
        points = points[:: max(1, len(points) // 400)]
        slopes = [
            (later[1] - earlier[1]) / (later[0] - earlier[0])
            for number, earlier in enumerate(points)
            for later in points[number + 1 :]
        ]
        span = points[-1][0] - points[0][0]
        return statistics.median(slopes) * span, self.limit.noise + self.limit.per_hour * span / 3600

    def creeps(self) -> bool:
        found = self.growth()
        return found is not None and found[0] > found[1]


def curves(samples: Sequence[Sample], rate: int) -> list[Curve]:
    """Every judged curve of a run at `rate` events per second."""
    names = list(dict.fromkeys(name for sample in samples for name in sample.memory))
    found = []
    for name in names:
        points = tuple((one.at, one.memory[name] / 1e6) for one in samples if name in one.memory)
        middle = statistics.median(value for _, value in points)
        # The workers together remember each event by 8 bytes until the day is over, and then by 2.6.
        ids = rate * 3600 * 8 / 1e6 if name == "workers" else 0.0
        limit = Limit(per_hour=0.05 * middle + 1.25 * ids, noise=0.1 * middle, unit="MB")
        found.append(Curve(f"memory of {name}", points, limit))
    found.append(Curve("lag", tuple((one.at, one.lag) for one in samples), Limit(0.0, 2.0 * rate, "events")))
    found.append(Curve("parts", tuple((one.at, one.parts) for one in samples), Limit(50.0, 60.0, "parts")))
    for name in ("p50", "p99"):
        points = tuple((one.at, value) for one in samples if (value := getattr(one, name)) is not None)
        found.append(Curve(f"latency {name}", points, Limit(0.1, 0.5, "s")))
    return found


WIDTH: Final = 900
_LEFT, _PANEL, _GAP = 90, 150, 44
_COLOURS: Final = ("#0969da", "#1a7f37", "#bc4c00", "#8250df", "#bf3989")
_STYLE: Final = """
  text { font: 12px system-ui, sans-serif; fill: #59636e; }
  .title { font-weight: 600; fill: #1f2328; }
  .axis { stroke: #8c959f; stroke-width: 1; }
  .restart { stroke: #8c959f; stroke-width: 1; stroke-dasharray: 2 3; }
  polyline { fill: none; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) { text { fill: #9198a1; } .title { fill: #e6edf3; } }
"""


def draw(found: Sequence[Curve], restarts: Sequence[float], title: str) -> str:
    """One panel per kind: memory, lag, parts, latency. Dashed lines mark restarts."""
    panels: dict[str, list[Curve]] = {}
    for curve in found:
        if curve.points:
            panels.setdefault(curve.name.split()[0], []).append(curve)
    end = max((curve.points[-1][0] for group in panels.values() for curve in group), default=1.0) or 1.0
    parts, top = [f'<text x="0" y="16" class="title">{escape(title)}</text>'], 48
    for name, group in panels.items():
        parts += _panel(name, group, restarts, end, top)
        top += _PANEL + _GAP
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
        f'role="img" aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )


def _panel(name: str, group: Sequence[Curve], restarts: Sequence[float], end: float, top: float) -> list[str]:
    most = max(value for curve in group for _, value in curve.points) or 1.0
    highest = f"{most:,.0f}" if most >= 100 else f"{most:.2f}"
    bottom, width = top + _PANEL, WIDTH - _LEFT - 10

    def x(at: float) -> float:
        return _LEFT + at / end * width

    parts = [
        f'<text x="0" y="{top - 8}" class="title">{escape(name)}, {group[0].limit.unit}</text>',
        f'<text x="{_LEFT - 6}" y="{top + 10}" text-anchor="end">{highest}</text>',
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{WIDTH - 10}" y="{bottom + 14}" text-anchor="end">{end / 60:,.0f} min</text>',
        f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{WIDTH - 10}" y2="{bottom}"/>',
        *(f'<line class="restart" x1="{x(at):.1f}" y1="{top}" x2="{x(at):.1f}" y2="{bottom}"/>' for at in restarts),
    ]
    for number, curve in enumerate(group):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{x(at):.1f},{bottom - value / most * _PANEL:.1f}" for at, value in curve.points)
        parts.append(f'<polyline stroke="{colour}" points="{path}"/>')
        label = curve.name.removeprefix(name).removeprefix(" of").strip() or name
        place = _LEFT + 110 + 110 * number
        parts.append(f'<text x="{place}" y="{top - 8}" style="fill: {colour}">{escape(label)}</text>')
    return parts
