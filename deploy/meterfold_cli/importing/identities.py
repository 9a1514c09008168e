"""Which ids of a file repeat, and whether the rows that share one say the same: exact, in bounded memory.

Each row leaves 32 bytes: a 128-bit hash of its identity, a hash of its contents, and its line. They are kept in memory
up to a stated number of rows, then in files by the first bits of the identity, so that one file at a time is sorted:
50 million rows are 1.6 GB of temporary files, and 25 MB of memory per file.
"""

from __future__ import annotations

import tempfile
from array import array
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

__all__ = ["Identities", "Repeats"]

_ROW: Final = np.dtype([("high", "<u8"), ("low", "<u8"), ("contents", "<i8"), ("line", "<i8")])
_FILES: Final = 64
_SHIFT: Final = 58  # the first 6 of 64 bits

Lines = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Repeats:
    """`exact`: rows that repeat an earlier one in everything. `conflicts`: (line, line of another row with the same
    identity and other contents), every row of such an identity, by line."""

    exact: int
    conflicts: Lines


class Identities:
    """Collects the rows of one file; a context manager, since it may hold temporary files."""

    def __init__(self, rows_in_memory: int = 1 << 20) -> None:
        self._limit = rows_in_memory
        self._identities = bytearray()
        self._others = array("q")
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, identity: bytes, contents: bytes, line: int) -> None:
        """One row: what makes it the same event, what it says, and its line."""
        self._identities += blake2b(identity, digest_size=16).digest()
        self._others.append(hash(contents))
        self._others.append(line)
        if len(self._others) >= 2 * self._limit:
            self._spill()

    def repeats(self) -> Repeats:
        """Of everything that was added."""
        if self._folder is None:
            return _repeats(self._take())
        self._spill()
        found = [_repeats(np.fromfile(path, _ROW)) for path in sorted(Path(self._folder.name).iterdir())]
        conflicts = np.concatenate([part.conflicts for part in found])
        return Repeats(sum(part.exact for part in found), conflicts[np.argsort(conflicts[:, 0], kind="stable")])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def _take(self) -> npt.NDArray[Any]:
        rows = np.empty(len(self._others) // 2, _ROW)
        hashes = np.frombuffer(bytes(self._identities), "<u8").reshape(-1, 2)
        others = np.frombuffer(self._others.tobytes(), np.int64).reshape(-1, 2)
        rows["high"], rows["low"] = hashes[:, 0], hashes[:, 1]
        rows["contents"], rows["line"] = others[:, 0], others[:, 1]
        self._identities, self._others = bytearray(), array("q")
        return rows

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="meterfold-import-")
        rows = self._take()
        places = rows["high"] >> np.uint64(_SHIFT)
        for place in range(_FILES):
            part = rows[places == place]
            if len(part):
                with (Path(self._folder.name) / f"{place:02}").open("ab") as file:
                    file.write(part.tobytes())


def _repeats(rows: npt.NDArray[Any]) -> Repeats:
    rows = rows[np.lexsort((rows["line"], rows["low"], rows["high"]))]
    if not len(rows):
        return Repeats(0, np.empty((0, 2), np.int64))
    new = np.ones(len(rows), bool)
    new[1:] = (rows["high"][1:] != rows["high"][:-1]) | (rows["low"][1:] != rows["low"][:-1])
    first = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    differs = rows["contents"] != rows["contents"][first[group]]
    conflicting = np.logical_or.reduceat(differs, first)
    exact = int(np.count_nonzero(~new & ~conflicting[group]))
    # The first row of a group that differs from the group's first one: for those that agree, it is the other side.
    where = np.where(differs, np.arange(len(rows)), len(rows))
    other = np.minimum.reduceat(where, first)[group]
    mine = conflicting[group]
    lines = rows["line"]
    partner = np.where(differs, lines[first[group]], lines[np.minimum(other, len(rows) - 1)])
    conflicts = np.column_stack((lines[mine], partner[mine])).astype(np.int64)
    return Repeats(exact, conflicts[np.argsort(conflicts[:, 0], kind="stable")])
