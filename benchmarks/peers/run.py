"""`make bench-peers`: the fold beside the engines that people would pick instead.

python benchmarks/peers/run.py [--events N] [--runs N] [--only NAME ...] [--backlog dense|sparse ...]
                               [--format avro|json ...] [--results FILE] [--again] [--write-docs] [--list]
"""

from __future__ import annotations

import sys
from pathlib import Path

# The folder of this script holds one folder per peer; the modules of the benchmarks are imported from the one above.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from peers.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
