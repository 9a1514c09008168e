"""No command uses pandas, so none imports it.

Where it is installed (ClickHouse's engine brings it to the local stack), pyarrow imports it for its first computation,
which costs every process half a second and 40 MB. There is no setting against that: here pandas cannot be imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["without_pandas"]


class _Absent(MetaPathFinder, Loader):
    """Finds pandas, and fails to load it: polars asks whether it can be found, pyarrow expects an ImportError."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == "pandas" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        raise ModuleNotFoundError("the meterfold command does not import pandas", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Never called: there is no module."""


def without_pandas() -> None:
    """For a whole process, before it imports pyarrow."""
    sys.meta_path.insert(0, _Absent())
