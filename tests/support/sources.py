"""The packages that the wheel ships, as source text: what they import and what their string literals say.

Everything comes from parsing, so an import inside of a function or below TYPE_CHECKING counts like any other.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Final, TypeGuard

from support.paths import ROOT

__all__ = ["PACKAGES", "Import", "Module", "module", "module_names", "modules", "package_of"]


def _packages() -> dict[str, Path]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return {Path(folder).name: ROOT / folder for folder in folders}


PACKAGES: Final = _packages()
"""Package name -> its folder, for every package of the wheel."""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module; `line` is where."""

    module: str
    line: int


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, its path below the repository, and its syntax tree."""

    name: str
    path: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return package_of(self.name)

    @cached_property
    def imports(self) -> list[Import]:
        """Every module that it imports, wherever the import is, and every module that a string literal names.

        `from a import b` gives both a and a.b: the parser cannot know whether b is a module.
        """
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [Import(alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                found.append(Import(base, node.lineno))
                found += [Import(f"{base}.{alias.name}", node.lineno) for alias in node.names]
            elif _names_module(node):
                found.append(Import(str(node.value), node.lineno))
        return found

    @cached_property
    def strings(self) -> list[tuple[int, str]]:
        """Line and text of every string literal that is no documentation: no docstring and no `help=`.

        Of an f-string, the text around its values, with {} for each value.
        """
        left_out: set[ast.AST] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                left_out.add(node.value)
            elif isinstance(node, ast.keyword) and node.arg in _HELP:
                left_out.update(ast.walk(node.value))
            elif isinstance(node, ast.JoinedStr):
                left_out.update(part for part in node.values if isinstance(part, ast.Constant))
        found = []
        for node in ast.walk(self.tree):
            if node in left_out:
                continue
            if isinstance(node, ast.JoinedStr):
                found.append((node.lineno, "".join(_text(part) for part in node.values)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append((node.lineno, node.value))
        return found

    def _absolute(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        here = self.name.split(".") if self.path.endswith("__init__.py") else self.name.split(".")[:-1]
        return ".".join([*here[: len(here) - node.level + 1], *([node.module] if node.module else [])])


_HELP: Final = frozenset({"help", "short_help", "epilog"})


def _names_module(node: ast.AST) -> TypeGuard[ast.Constant]:
    """For importlib.import_module("...") and `python -m ...`. Names of loggers look like those of the SDK's modules."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    return node.value in module_names() and package_of(node.value) != "meterfold"


def _text(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "{}"


def package_of(module: str) -> str:
    """The top-level package of a dotted name."""
    return module.partition(".")[0]


def modules(package: str) -> Iterator[Module]:
    """Every module of one package."""
    return (module for module in _all().values() if module.package == package)


@cache
def module_names() -> frozenset[str]:
    """The dotted name of every module of every package."""
    return frozenset(_name(folder, path) for folder in PACKAGES.values() for path in folder.rglob("*.py"))


@cache
def _all() -> dict[str, Module]:
    found = {}
    for folder in PACKAGES.values():
        for path in sorted(folder.rglob("*.py")):
            name = _name(folder, path)
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
            found[name] = Module(name, path.relative_to(ROOT).as_posix(), tree)
    return found


def module(name: str) -> Module:
    """KeyError when no package has it."""
    return _all()[name]


def _name(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
