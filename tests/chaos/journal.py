"""What a producer wrote down: each event before it is handed in, and its report afterwards.

One JSON line per entry, written by one system call each, so that a SIGKILL leaves at most a torn last line. The kernel
keeps what was written; only the process dies here, never the machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Position = tuple[int, int | None]
"""Partition and offset; a report may come without the offset."""


class Journal:
    """Appends; for any thread."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if path.stat().st_size:
            os.write(self._file, b"\n")  # ends a line that was torn

    def write(self, kind: str, event_id: str, **values: Any) -> None:
        line = json.dumps({"kind": kind, "id": event_id, **values}, separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")


@dataclass(slots=True)
class Entry:
    """All that one journal says about one id. `contents` are the different bodies that were handed in under it."""

    contents: list[dict[str, Any]] = field(default_factory=list)
    acknowledged: list[Position] = field(default_factory=list)
    failed: int = 0


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole entries; a torn line is none."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def read(path: Path) -> dict[str, Entry]:
    """The entries by id."""
    found: dict[str, Entry] = {}
    for line in lines(path):
        entry = found.setdefault(line.pop("id"), Entry())
        match line.pop("kind"):
            case "handed":
                if line not in entry.contents:
                    entry.contents.append(line)
            case "acknowledged":
                entry.acknowledged.append((line["partition"], line["offset"]))
            case "failed":
                entry.failed += 1
    return found


def has_report(path: Path, begin: int) -> bool:
    """Whether a report of a broker stands behind this byte."""
    with path.open("rb") as file:
        file.seek(begin)
        return b'"kind":"acknowledged"' in file.read()
