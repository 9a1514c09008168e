"""Where a worker is to end or stand still: armed from outside through a file, looked at around every named step.

The shipped workers know nothing of this. The entry points of this package replace the loop that performs their steps,
and that loop calls `reached`.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ALONE: Final = "AlertsAlone"
"""In the place of Produce, for alerts of a step in which a checker consumed nothing: a definition has caused them."""


@dataclass(frozen=True, slots=True)
class Point:
    """A signal that a process sends itself "before" or "after" a step."""

    signal_name: str
    when: str
    step: str

    def __str__(self) -> str:
        return f"{self.signal_name} {self.when} {self.step}"


class Points:
    """One process's file. `arm` and `disarm` are for the one who injects, `reached` is for the process itself."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / f"{name}.point"
        self._hit = folder / f"{name}.hit"

    def arm(self, point: Point) -> None:
        self._hit.unlink(missing_ok=True)
        draft = self._file.with_suffix(".draft")
        draft.write_text(str(point), encoding="ascii")
        draft.rename(self._file)

    def disarm(self) -> bool:
        """Whether the point was still waiting to be reached."""
        try:
            self._file.unlink()
        except FileNotFoundError:
            return False
        return True

    @property
    def was_hit(self) -> bool:
        return self._hit.exists()

    def reached(self, when: str, step: str) -> None:
        """Send ourselves the signal if this is the point; it is disarmed first, so that it acts once."""
        try:
            name, *point = self._file.read_text(encoding="ascii").split()
        except FileNotFoundError:
            return
        if point != [when, step]:
            return
        try:
            self._file.rename(self._hit)
        except FileNotFoundError:  # disarmed at this very moment
            return
        os.kill(os.getpid(), signal.Signals[name])
