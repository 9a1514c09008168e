"""Bar charts of text: one line per value, with a label and the number. Pure.

Eighths of a block are drawn to the right of zero and halves to its left, where Unicode has no finer ones. A value that
is too small to be seen still gets the thinnest bar, so that it differs from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

__all__ = ["ASCII", "BLOCKS", "Bar", "Blocks", "bars"]

_LEAST: Final = 4


@dataclass(frozen=True, slots=True)
class Blocks:
    """What bars are made of: a full cell, and the parts of one at the right and the left end, thinnest first."""

    full: str
    right: str
    left: str
    axis: str


BLOCKS: Final = Blocks("█", "▏▎▍▌▋▊▉", "▐", "│")
ASCII: Final = Blocks("#", "", "", "|")
"""For outputs that cannot show Unicode."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One line: `value` None has no bar and no number; `text` is the number as it is shown."""

    label: str
    value: Decimal | None
    text: str


def bars(lines: Sequence[Bar], width: int, blocks: Blocks = BLOCKS) -> list[str]:
    """The lines, at most `width` characters wide where labels and numbers leave room for a bar of four cells; in less
    room bars are left out and lines keep their label and number. All lines have one scale, which includes 0.
    """
    if not lines:
        return []
    labels, texts = max(len(line.label) for line in lines), max(len(line.text) for line in lines)
    values = [line.value for line in lines if line.value is not None]
    highest, lowest = max([Decimal(0), *values]), min([Decimal(0), *values])
    room = width - labels - texts - 2 - (1 if lowest < 0 else 0)
    if room < _LEAST:
        return [f"{line.label.ljust(labels)} {line.text.rjust(texts)}" for line in lines]
    below = _cells_below(lowest, highest, room)
    cell = max(
        highest / (room - below) if room > below else Decimal(0),
        -lowest / below if below else Decimal(0),
    )
    drawn = []
    for line in lines:
        left, right = _drawn(line.value, cell, blocks)
        axis = blocks.axis if below else ""
        drawn.append(
            f"{line.label.ljust(labels)} {left.rjust(below)}{axis}{right.ljust(room - below)} {line.text.rjust(texts)}"
        )
    return drawn


def _cells_below(lowest: Decimal, highest: Decimal, room: int) -> int:
    """Of `room` cells those left of zero, in proportion; at least one on each side that has values."""
    if lowest >= 0:
        return 0
    if highest <= 0:
        return room
    share = int((-lowest * room / (highest - lowest)).to_integral_value(ROUND_HALF_UP))
    return min(max(share, 1), room - 1)


def _drawn(value: Decimal | None, cell: Decimal, blocks: Blocks) -> tuple[str, str]:
    """The bar left and right of zero."""
    if not value or not cell:
        return "", ""
    parts = blocks.right if value > 0 else blocks.left
    steps = len(parts) + 1
    size = max(1, int((abs(value) / cell * steps).to_integral_value(ROUND_HALF_UP)))
    whole, part = divmod(size, steps)
    edge = parts[part - 1] if part else ""
    return ("", blocks.full * whole + edge) if value > 0 else (edge + blocks.full * whole, "")
