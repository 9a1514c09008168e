"""Fills docs/peers.md and docs/peers.svg from the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from peers.contestants import FOLDER
from peers.outcomes import Median, Outcome
from peers.picture import draw
from peers.tables import markdown

BEGIN: Final = "<!-- figures: begin -->"
END: Final = "<!-- figures: end -->"
DOCS: Final = FOLDER.parent.parent / "docs"


def write(outcomes: Sequence[Outcome], found: Sequence[Median], docs: Path = DOCS) -> None:
    """Replace the text between the marks, and draw the picture. Raises SystemExit without marks or results."""
    page = docs / "peers.md"
    text = page.read_text(encoding="utf-8")
    if not found:
        raise SystemExit("no results to write; run the benchmark first")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise SystemExit(f"{page}: the marks {BEGIN} and {END} must each be there once")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    (docs / "peers.svg").write_text(draw(found), encoding="utf-8")
    page.write_text(f"{head}{BEGIN}\n{figures(outcomes, found)}\n{END}{tail}", encoding="utf-8")


def figures(outcomes: Sequence[Outcome], found: Sequence[Median]) -> str:
    """Where and when it was measured, the picture, and a table per backlog."""
    cases = {(one.peer, one.format, one.backlog, one.events) for one in found}
    used = [one for one in outcomes if one.case in cases]
    machines = dict.fromkeys(one.machine.rpartition(", load")[0] for one in used if one.machine)
    days = sorted({one.measured_at[:10] for one in used if one.measured_at})
    runs = sorted({one.runs for one in found if not one.failed})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}" if days else "an unknown day"
    how = f"medians of {runs[0]} runs" if len(runs) == 1 else "medians of the runs in the last column"
    parts = [
        f"Measured on {when} with {found[0].events:,} events per backlog, {how}, on: {'; '.join(machines)}.",
        "![Events per second of each peer](peers.svg)",
        *(
            markdown(name, [one for one in found if one.backlog == name])
            for name in dict.fromkeys(m.backlog for m in found)
        ),
    ]
    return "\n\n".join(parts)
