"""Small files that appear whole or not at all, readable by their owner alone; and the stack's passwords."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from meterfold_local.errors import StackError


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step by a file of mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp creates with mode 0600: there is no moment at which others can read it.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@dataclass(frozen=True, slots=True)
class Passwords:
    """The generated passwords of one local stack; never part of a repr."""

    kafka_client: str = field(repr=False)
    kafka_broker: str = field(repr=False)
    clickhouse: str = field(repr=False)
    http_token_key: str = field(repr=False, default="")
    """Key of the HMAC under which tokens of the HTTP API are stored."""


def load_passwords(path: Path) -> Passwords:
    """Read the file of passwords, creating it on first use. They stay the same over restarts. A file of an earlier
    version gets the key that it lacks."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        made = {} if "http_token_key" in document else {"http_token_key": secrets.token_hex(32)}
        passwords = Passwords(**{name.name: {**document, **made}[name.name] for name in fields(Passwords)})
        if made:
            _write(path, passwords)
        return passwords
    except FileNotFoundError:
        # Hex digits need no quoting in JAAS, properties, TOML or a URL.
        passwords = Passwords(
            secrets.token_hex(24), secrets.token_hex(24), secrets.token_hex(24), http_token_key=secrets.token_hex(32)
        )
        _write(path, passwords)
        return passwords
    except (ValueError, KeyError, TypeError) as error:
        raise StackError(f"{path}: not a file of passwords ({error!r}); restore it or start in a new folder") from error


def _write(path: Path, passwords: Passwords) -> None:
    write_private(path, json.dumps(asdict(passwords), indent=2) + "\n")
