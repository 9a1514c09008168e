"""Write the lock files of the peers in Java again: python benchmarks/peers/relock.py [FOLDER ...]

A maintainer's tool. `jars.toml` in a folder names the coordinates; `jars.lock.toml` gets every jar that they need, with
its SHA-256.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from meterfold_local.kafka.relock import lock_jars

HEADER = """\
# Every jar with the SHA-256 of its bytes.
# Written by `python benchmarks/peers/relock.py` from jars.toml; do not edit by hand.
"""

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    for source in sorted(here.glob("*/jars.toml")):
        if len(sys.argv) == 1 or source.parent.name in sys.argv[1:]:
            wanted = tomllib.loads(source.read_text(encoding="utf-8"))
            target = source.with_name("jars.lock.toml")
            count = lock_jars(wanted["name"], wanted["version"], wanted["coordinates"], target, HEADER)
            print(f"{count} jars locked in {target}")
