"""Opening a text file as UTF-8, UTF-16 or UTF-32, by its byte order mark and never by a guess."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.file_kinds import open_bytes

#: How to make a file readable that is in another encoding.
CONVERT: Final = "convert it to UTF-8, for example with `iconv -f WINDOWS-1252 -t UTF-8`"

_START_BYTES: Final = 65_536
_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_OTHERS: Final = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP archive; export it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook; export it as CSV"),
    (b"PAR1", "Parquet; name it .parquet"),
)


def open_text(path: Path, name: str) -> tuple[IO[str], Callable[[], int]]:
    """The file as text, line ends untouched, decompressed if it is compressed, and how many bytes of it were read.

    `name` is what messages call it. Raises WrongInput.

    Bytes that are not valid UTF-8 come as lone surrogates, which the rules of an event refuse: one bad row instead of a
    bad file.
    """
    try:
        raw, _ = open_bytes(path, name)
        with raw:
            start = raw.read(_START_BYTES)
        encoding = _encoding(start, name)
        errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
        raw, position = open_bytes(path, name)
        return io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline=""), position
    except OSError as error:
        raise WrongInput(f"{name} is damaged and cannot be decompressed: {error}") from None


def _encoding(start: bytes, name: str) -> str:
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    for magic, what in _OTHERS:
        if start.startswith(magic):
            raise WrongInput(f"{name} is not CSV but {what}")
    if b"\0" in start.partition(b"\n")[0]:
        raise WrongInput(
            f"{name} has NUL bytes in its first line: it is not text, or it is UTF-16 without a byte order mark. "
            "Convert it to UTF-8, for example with `iconv -f UTF-16LE -t UTF-8`"
        )
    return "utf-8-sig"
