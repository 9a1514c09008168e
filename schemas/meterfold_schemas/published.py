"""The files of this package for other languages: schemas, header bytes, examples, JSON Schema, AsyncAPI, test vectors.

They are plain files of the wheel and of the repository; `meterfold schema export DIR` copies them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files as resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from meterfold_schemas.errors import InvalidSettings

__all__ = ["export", "files"]

#: Files and folders of the package; modules are not among them.
_PLACES: Final = ("asyncapi.json", "avro", "examples", "json_schema", "vectors")


def files() -> Iterator[tuple[str, bytes]]:
    """(path with slashes, content) of every file, by path."""
    package = resources("meterfold_schemas")
    for place in _PLACES:
        yield from _below(place, package / place)


def export(folder: Path) -> list[Path]:
    """Write every file below `folder`, which is created, and return their paths. Existing files are replaced.

    Raises InvalidSettings if a file cannot be written.
    """
    written = []
    for name, content in files():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise InvalidSettings(
                f"cannot write {path}: {error.strerror}; give a folder that you may write to"
            ) from None
        written.append(path)
    return written


def _below(name: str, entry: Traversable) -> Iterator[tuple[str, bytes]]:
    if entry.is_file():
        yield name, entry.read_bytes()
        return
    for inner in sorted(entry.iterdir(), key=lambda inner: inner.name):
        yield from _below(f"{name}/{inner.name}", inner)
