"""The medians as a picture in SVG: one bar per peer and format, one panel per backlog, on light and on dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.sax.saxutils import escape

from peers.outcomes import Median
from peers.tables import FORMAT_TITLES, OURS, TITLES, in_order

WIDTH: Final = 860
_LEFT, _RIGHT, _BAR, _STEP, _TOP = 170, 190, 16, 26, 66
_STYLE: Final = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .note { fill: #59636e; font-size: 12px; }
  .bar { fill: #8c959f; }
  .ours { fill: #0969da; }
  .json { fill-opacity: 0.55; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .note { fill: #9198a1; }
    .bar { fill: #6e7681; }
    .ours { fill: #4493f8; }
  }
"""


def draw(medians: Sequence[Median]) -> str:
    """Events per second as bars, with the CPU of all processes beside them."""
    good = [one for one in medians if not one.failed]
    most = max((one.rate for one in good), default=1.0)
    parts, top = list[str](), 24
    parts.append(_text(0, top - 4, "Events per second, and CPU time per event of all processes", "title"))
    parts.append(_text(0, top + 14, "Longer is better. Full colour: Avro; pale: JSON. Blue: Meterfold.", "note"))
    top = _TOP
    for backlog in dict.fromkeys(one.backlog for one in medians):
        parts.append(_text(0, top, backlog, "title"))
        top += 12
        for one in in_order([one for one in medians if one.backlog == backlog]):
            parts += _bar(one, top, most)
            top += _STEP
        top += 24
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
        f'role="img" aria-label="Events per second of each peer">\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
    )


def _bar(one: Median, top: int, most: float) -> list[str]:
    name = f"{TITLES.get(one.peer, one.peer)}, {FORMAT_TITLES[one.format]}"
    label = _text(_LEFT - 8, top + 13, name, "", "end")
    if one.failed:
        return [label, _text(_LEFT, top + 13, "failed", "note")]
    width = max(1.0, one.rate / most * (WIDTH - _LEFT - _RIGHT))
    kind = " ".join(["bar", *(["ours"] if one.peer == OURS else []), *(["json"] if one.format == "json" else [])])
    bar = f'<rect class="{kind}" x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2"/>'
    figures = f"{one.rate:,.0f}/s, {one.total_cpu:.1f} µs"
    return [label, bar, _text(_LEFT + width + 8, top + 13, figures)]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{escape(text)}</text>'
