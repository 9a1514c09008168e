"""Mappings as TOML: reading one with errors that name the line, writing one, and the presets of the package."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Dict
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.mapping import Mapping
from meterfold_cli.importing.mapping_problems import problem_text
from meterfold_schemas.plurals import plural

__all__ = ["parse", "preset", "presets", "read", "write"]

_HEADER: Final = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"^\s*([A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')\s*(?:\.|=)")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN: Final = 5


def read(path: Path) -> Mapping:
    """The mapping of a file. Raises WrongInput with the line where that is known."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WrongInput(f"{path} is not valid UTF-8: {error.reason}") from None
    except OSError as error:
        raise WrongInput(f"{path} cannot be read: {error.strerror}") from None
    return parse(text, str(path))


def presets() -> dict[str, str]:
    """Name -> description of the mappings that the package has."""
    return {name: preset(name).description for name in sorted(_names())}


def preset(name: str) -> Mapping:
    """Raises WrongInput for a name that is not one of `presets`."""
    known = sorted(_names())
    if name not in known:
        raise WrongInput(f"--preset {name!r} is unknown; give one of {', '.join(known)}")
    text = (files("meterfold_cli.importing") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    return parse(text, f"preset {name}")


def parse(text: str, name: str) -> Mapping:
    """`name` is what messages call it. Raises WrongInput."""
    try:
        return Mapping.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise WrongInput(f"{name} is not valid TOML: {error}") from None
    except ValidationError as error:
        problems = error.errors(include_url=False)
        texts = [f"{_place(text, name, problem['loc'])}: {problem_text(problem)}" for problem in problems[:_SHOWN]]
        more = len(problems) - len(texts)
        raise WrongInput("; ".join(texts) + (f"; and {plural(more, 'more problem')}" if more else "")) from None


def write(mapping: Mapping, path: Path) -> None:
    """As a file that `read` gives back. Raises WrongInput if there is one or it cannot be written."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text_of(mapping))
    except FileExistsError:
        raise WrongInput(f"--write-mapping {path}: the file exists; choose another name or delete it") from None
    except OSError as error:
        raise WrongInput(f"--write-mapping {path} cannot be written: {error.strerror}") from None


def text_of(mapping: Mapping) -> str:
    """The mapping as TOML: single values first, then tables."""
    plain = mapping.plain()
    tables = {name for name, value in plain.items() if isinstance(value, dict)}
    lists = {name for name in ("subjects", "measures") if name in plain}
    lines = [f"{name} = {_value(value)}" for name, value in plain.items() if name not in tables | lists]
    for name, value in plain.items():
        if name in lists:
            for part in value:
                lines += ["", f"[[{name}]]", *_entries(part)]
        elif name in tables:
            lines += ["", f"[{name}]", *_entries(value)]
    return "\n".join(lines) + "\n"


def _entries(table: Dict[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        yield f"{_name(name)} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(_entries(value)) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _name(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _names() -> list[str]:
    folder = files("meterfold_cli.importing") / "presets"
    return [entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")]


def _place(text: str, name: str, loc: Sequence[str | int]) -> str:
    """The name, and the line of the last part of `loc` that has one."""
    wanted = [part for part in loc if isinstance(part, int) or not part.startswith("function-")]
    best, line = 0, 0
    for number, path in _keys(text):
        common = 0
        while common < min(len(path), len(wanted)) and path[common] == wanted[common]:
            common += 1
        if common == len(path) and common > best:
            best, line = common, number
    return f"{name}, line {line}" if line else name


def _keys(text: str) -> Iterator[tuple[int, list[str | int]]]:
    """(line, path) of every header and of every key at the beginning of a line. A guide for messages, not a parser."""
    table: list[str | int] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if (header := _HEADER.match(line)) is not None:
            table = [part.strip().strip("\"'") for part in header[2].split(".")]
            if header[1] == "[[":
                counts[header[2]] = counts.get(header[2], -1) + 1
                table.append(counts[header[2]])
            yield number, table
        elif (key := _KEY.match(line)) is not None:
            yield number, [*table, key[1].strip("\"'")]
