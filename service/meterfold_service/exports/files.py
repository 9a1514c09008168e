"""Files that are there as a whole or not at all.

An export is written to a hidden file in the same folder and renamed at the end, after it is on the disk. The hidden
file has a fixed name and is locked: one that an earlier process left behind is used again, one that another process is
writing is an error.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from meterfold_schemas.errors import InvalidUsage

__all__ = ["new_file", "partial_path"]


def partial_path(path: Path) -> Path:
    """Where the file is written until it is complete."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def new_file(path: Path, *, overwrite: bool = False) -> Iterator[IO[bytes]]:
    """The file to write; it has its name when the block has ended. If the block raises, nothing is left.

    Raises InvalidUsage where the file exists (unless `overwrite`), the folder does not, or another export is writing
    it, and OSError for what the disk refuses.
    """
    if path.is_dir():
        raise InvalidUsage(f"{path} is a folder; name a file in it")
    if not overwrite and path.exists():
        raise InvalidUsage(f"{path} exists; choose another name or ask to overwrite it")
    if not path.parent.is_dir():
        raise InvalidUsage(f"the folder {path.parent} does not exist; create it")
    partial = partial_path(path)
    with _locked(partial, path) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise
        _sync_folder(path.parent)


@contextmanager
def _locked(partial: Path, path: Path) -> Iterator[IO[bytes]]:
    while True:
        try:
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except PermissionError as error:
            raise InvalidUsage(f"cannot write in {partial.parent}: {error.strerror}") from error
        with os.fdopen(descriptor, "r+b", buffering=1 << 20) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InvalidUsage(f"another export is writing {path}; wait for it or choose another name") from None
            # Whoever had the lock may have renamed or removed the file between our open and our lock.
            if not _same_file(partial, file):
                continue
            file.truncate(0)
            yield file
            return


def _same_file(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """The new name is on the disk as well."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
