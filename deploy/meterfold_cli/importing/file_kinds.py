"""What kind of file it is: compression by its first bytes, format by its name or, without one, its text."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal, cast

import pyarrow as pa

from meterfold_cli.exits import WrongInput

__all__ = ["ENDINGS", "FileKind", "kind_of", "open_bytes"]

Format = Literal["csv", "json", "jsonl", "parquet"]
Compression = Literal["gzip", "zstd"]

_MAGIC: Final[tuple[tuple[bytes, Compression], ...]] = ((b"\x1f\x8b", "gzip"), (b"(\xb5/\xfd", "zstd"))
_COMPRESSED: Final = (".gz", ".gzip", ".zst", ".zstd")
_FORMATS: Final[dict[str, Format]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
#: The names that a file may end with, for messages.
ENDINGS: Final = ".csv, .tsv, .jsonl, .ndjson, .json or .parquet, also with .gz or .zst behind it"
_START: Final = 65_536


@dataclass(frozen=True, slots=True)
class FileKind:
    """`suffix` is that of the format, such as .csv."""

    format: Format
    compression: Compression | None
    suffix: str


def kind_of(path: Path, name: str, *, by_name: bool = True) -> FileKind:
    """`by_name`: False for standard input, which has none. Raises WrongInput, also for a name of no known format."""
    suffixes = [suffix.lower() for suffix in path.suffixes] if by_name else []
    packed = bool(suffixes) and suffixes[-1] in _COMPRESSED
    suffix = (suffixes[-2] if len(suffixes) > 1 else "") if packed else (suffixes[-1] if suffixes else "")
    found = _FORMATS.get(suffix)
    if by_name and found is None and not packed:
        raise WrongInput(f"{name}: not a kind of file that can be imported; give {ENDINGS}")
    compression = _compression(path, name)
    if found == "parquet" or (found is None and _start(path, name, compression).startswith(b"PAR1")):
        if compression is not None:
            raise WrongInput(f"{name} is Parquet compressed with {compression}; decompress it first")
        return FileKind("parquet", None, suffix if found else ".parquet")
    if found in (None, "json"):
        text = _start(path, name, compression).lstrip(b"\xef\xbb\xbf \t\r\n")
        if found == "json" or text[:1] in (b"{", b"["):
            return FileKind("jsonl" if _is_lines(text) else "json", compression, suffix or ".jsonl")
    return FileKind(found or "csv", compression, suffix or ".csv")


def open_bytes(path: Path, name: str) -> tuple[IO[bytes], Callable[[], int]]:
    """The decompressed bytes, and how many bytes of the file were read. Raises WrongInput for one that can't be read.

    A damaged or truncated compressed file is an OSError while it is read.
    """
    compression = _compression(path, name)
    try:
        raw = path.open("rb")
    except OSError as error:
        raise WrongInput(f"{name} cannot be read: {error.strerror}") from None
    if compression is None:
        return raw, raw.tell
    return io.BufferedReader(_Decompressed(raw, compression), _START), raw.tell


class _Decompressed(io.RawIOBase):
    """pyarrow's reader of compressed streams as a file of Python. Several members one after another are one stream."""

    def __init__(self, raw: IO[bytes], compression: Compression) -> None:
        self._raw = raw
        self._stream = pa.CompressedInputStream(pa.PythonFile(cast(io.IOBase, raw), mode="r"), compression)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        part = self._stream.read(len(view))
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._raw.close()
        super().close()


def _compression(path: Path, name: str) -> Compression | None:
    try:
        with path.open("rb") as raw:
            start = raw.read(4)
    except OSError as error:
        raise WrongInput(f"{name} cannot be read: {error.strerror}") from None
    return next((compression for magic, compression in _MAGIC if start.startswith(magic)), None)


def _start(path: Path, name: str, compression: Compression | None) -> bytes:
    file, _ = open_bytes(path, name)
    with file:
        try:
            return file.read(_START)
        except OSError as error:
            raise WrongInput(f"{name} is damaged and cannot be decompressed as {compression}: {error}") from None


def _is_lines(text: bytes) -> bool:
    """Whether JSON looks like JSON Lines: its first line is one whole object, and there is another one."""
    import json

    first, _, rest = text.partition(b"\n")
    if not first.startswith(b"{") or not rest.lstrip().startswith(b"{"):
        return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True
