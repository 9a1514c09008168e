"""Output of the commands: colour and tables on a terminal, plain lines elsewhere, JSON with --json.

Results go to standard output; notes, progress and errors to standard error, so that a pipe carries results only.
Rich respects NO_COLOR, TERM and the width of the terminal. Without a terminal, lines are never truncated.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_PROGRESS_SECONDS = 5.0
_FORCING: Final = ("FORCE_COLOR", "TTY_COMPATIBLE")
"""With one of these rich draws as on a terminal, whatever the output is."""
_CONTROLS: Final = dict.fromkeys((7, 8, 11, 12, 13))
"""What rich leaves out of a text."""


def out() -> Console:
    """A new one for each call, because tests replace sys.stdout."""
    return _console(sys.stdout)


def err() -> Console:
    return _console(sys.stderr)


def say(text: str = "", style: str = "") -> None:
    """One line of the result. It is not parsed as markup, because ids and keys can contain brackets."""
    _print(sys.stdout, (text, style))


def note(text: str, style: str = "dim") -> None:
    """One line beside the result."""
    _print(sys.stderr, (text, style))


def fail(text: str) -> None:
    """An error: what happened, the value, and what to do."""
    _print(sys.stderr, ("meterfold: ", "bold red"), (text, ""))


def emit(value: object) -> None:
    """One JSON document on one line."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def emit_list(page: Any) -> None:
    """A page of a list that is asked for by --limit and --offset: its cursor is for other clients."""
    emit({name: value for name, value in plain(page).items() if name != "cursor"})


def plain(value: object) -> Any:
    """JSON's own types: decimals as text without an exponent, times as ISO 8601 in UTC."""
    if hasattr(value, "model_dump"):  # pydantic's; importing it only to ask would cost every command 0.1 s
        return plain(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return time_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    return value


def decimal_text(value: Decimal) -> str:
    """Without an exponent and without zeros at the end."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def time_text(value: datetime) -> str:
    text = value.astimezone(UTC).isoformat(sep="T", timespec="microseconds" if value.microsecond else "seconds")
    return text.replace("+00:00", "Z")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """Numbers are aligned right. With lines and colour on a terminal, as plain columns elsewhere."""
    texts = [[_cell(value) for value in row] for row in rows]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    if _is_plain(sys.stdout):
        if title:
            say(title)
        for line in _columns(headers, texts, right):
            say(line)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold")
    for header, to_the_right in zip(headers, right, strict=True):
        drawn.add_column(Text(header), justify="right" if to_the_right else "left", overflow="fold")
    for row in texts:
        drawn.add_row(*(Text(text) for text in row))
    out().print(drawn, soft_wrap=False)


def _columns(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> Iterator[str]:
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    for line in lines:
        cells = (
            text.rjust(width) if to_the_right else text.ljust(width)
            for text, width, to_the_right in zip(line, widths, right, strict=True)
        )
        yield "  ".join(cells).rstrip()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value)) or "-"
    return str(plain(value))


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float | Decimal) and not isinstance(value, bool))


class ProgressCallback(Protocol):
    """Called by a long task with its progress."""

    def __call__(self, done: int, total: int | None = None, text: str = "") -> None: ...


@contextmanager
def progress(what: str, unit: str = "") -> Iterator[ProgressCallback]:
    """A bar on a terminal, elsewhere one line every few seconds; both on standard error."""
    if _is_plain(sys.stderr):
        yield _plain_progress(what, unit)
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeRemainingColumn(), console=err(), transient=True) as bar:
        task = bar.add_task(what, total=None, text="")

        def show(done: int, total: int | None = None, text: str = "") -> None:
            bar.update(task, completed=done, total=total, text=text or (f"{done:,} {unit}" if unit else ""))

        yield show


def _plain_progress(what: str, unit: str) -> ProgressCallback:
    last = time.monotonic()

    def show(done: int, total: int | None = None, text: str = "") -> None:
        nonlocal last
        if time.monotonic() - last < PLAIN_PROGRESS_SECONDS:
            return
        last = time.monotonic()
        share = f" ({done * 100 // total} %)" if total else ""
        note(f"{what}: {text or f'{done:,} {unit}'.strip()}{share}")

    return show


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=True)


def _is_plain(stream: TextIO) -> bool:
    """Whether rich would write plain lines. Importing it only for that would cost every command 0.08 s."""
    if any(os.environ.get(name) for name in _FORCING):
        return not _console(stream).is_terminal
    return not stream.isatty() or not _console(stream).is_terminal


def _print(stream: TextIO, *parts: tuple[str, str]) -> None:
    """One line of parts (text, style)."""
    if _is_plain(stream):
        stream.write("".join(text for text, _ in parts).translate(_CONTROLS) + "\n")
        stream.flush()
        return
    from rich.text import Text

    _console(stream).print(Text.assemble(*parts))
