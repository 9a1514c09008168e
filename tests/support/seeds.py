"""The seeds of random tests: the same in every run, so that a run of CI repeats, or new ones in a nightly run.

METERFOLD_SEED=7 makes 7 the seed of every test, METERFOLD_SEED=new draws new ones. Each test prints its seed.
"""

from __future__ import annotations

import os
import secrets
import zlib
from typing import Final

__all__ = ["NEW", "seed_of"]

# Read while the module is loaded: fixtures remove every METERFOLD_ variable before a test runs.
_WANTED: Final = os.environ.get("METERFOLD_SEED", "")
NEW: Final = _WANTED == "new"


def seed_of(name: str) -> int:
    """The seed of the test of this name, which is printed."""
    seed = _seed_of(name)
    print(f"{name}: METERFOLD_SEED={seed}")  # noqa: T201
    return seed


def _seed_of(name: str) -> int:
    if NEW:
        return secrets.randbits(32)
    return int(_WANTED) if _WANTED else zlib.crc32(name.encode())
