"""Where an import broke off: a small file beside the imported one, which `--resume` reads.

It names the file by its size and hash, the mapping, and the topic, so that rows are only skipped where they are the
very rows that were delivered. It is deleted when the import is complete.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any, Final

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.mapping import Mapping

__all__ = ["Position", "fingerprint", "forget", "load", "path_of", "save"]

_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Position:
    """Everything up to `line` of a file with this size (bytes) and hash is delivered to `topic` by this mapping."""

    size: int
    digest: str
    mapping: str
    topic: str
    line: int = 0

    def at(self, line: int) -> Position:
        return replace(self, line=line)


def path_of(file: Path) -> Path:
    """FILE.resume.json"""
    return file.with_name(f"{file.name}.resume.json")


def fingerprint(file: Path, mapping: Mapping, org_id: str, topic: str) -> Position:
    """The position before the first row. Reads the whole file once, at about a gigabyte per second."""
    with file.open("rb") as content:
        digest = file_digest(content, lambda: blake2b(digest_size=16)).hexdigest()
    plain = json.dumps([mapping.plain(), org_id], sort_keys=True)
    return Position(file.stat().st_size, digest, blake2b(plain.encode(), digest_size=16).hexdigest(), topic)


def save(file: Path, position: Position) -> None:
    """Replaces what was there. Raises OSError."""
    path = path_of(file)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        beside.write_text(json.dumps({"version": _VERSION, **asdict(position)}) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise


def forget(file: Path) -> None:
    """After a complete import."""
    with suppress(OSError):
        path_of(file).unlink()


def load(file: Path, now: Position) -> Position:
    """Where to continue. Raises WrongInput if there is nothing to continue, or not with this file and these options."""
    path = path_of(file)
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        saved = Position(**{name: value for name, value in found.items() if name != "version"})
        readable = found["version"] == _VERSION and type(saved.line) is int
    except FileNotFoundError:
        raise WrongInput(
            f"--resume: there is no {path}, so no import of {file} broke off; import it without --resume"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WrongInput(f"--resume: {path} cannot be read: {error}; import the file without --resume") from None
    if not readable:
        raise WrongInput(f"--resume: {path} was written by another version; import the file without --resume")
    if (saved.size, saved.digest) != (now.size, now.digest):
        changed = f"{saved.size:,} bytes then, {now.size:,} now" if saved.size != now.size else "the contents differ"
    elif saved.mapping != now.mapping:
        changed = "the options or the mapping changed"
    elif saved.topic != now.topic:
        changed = f"it was sent to {saved.topic}, and now goes to {now.topic}"
    else:
        return saved
    what = "" if "options" in changed or "sent" in changed else f"{file} changed since the import broke off: "
    raise WrongInput(f"--resume: {what}{changed}. Import it without --resume; ids that were delivered count once")
