"""A process of the command line computes with polars and pyarrow, and never imports pandas."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
{first}
import numpy as np, polars as pl, pyarrow as pa, pyarrow.compute as pc
table = pa.table({{"a": [1, 2, 3]}})
assert table.filter(np.array([True, False, True])).column("a").to_numpy().tolist() == [1, 3]
assert pc.equal(table.column("a"), 2).to_pylist() == [False, True, False]
assert pl.from_arrow(table).to_arrow().num_rows == 3
print("pandas" in sys.modules)
"""


def _imported(first: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip() == "True"


def test_a_command_computes_without_pandas() -> None:
    assert not _imported("from meterfold_cli.without_pandas import without_pandas; without_pandas()")


def test_pyarrow_alone_imports_it() -> None:
    """If this fails, pyarrow has changed: delete without_pandas.py."""
    assert _imported("")
