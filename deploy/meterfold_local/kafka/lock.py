"""Lock files of jars: which files make up a program in Java, and what each one's bytes are.

`kafka.lock.toml`, beside this module, pins the broker; each benchmark of another engine has a lock file of its own.
Every entry is a Maven coordinate and the SHA-256 of its jar, so what runs on a user's machine is what was tested,
whoever served the download.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from meterfold_local.errors import StackError

LOCK_FILE = Path(__file__).with_name("kafka.lock.toml")

_COORDINATE = re.compile(r"[A-Za-z0-9_.-]+:[A-Za-z0-9_.-]+:[A-Za-z0-9_.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LockedJar:
    """One jar: `group:artifact:version` and the SHA-256 (lower-case hex) of its file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


@dataclass(frozen=True, slots=True)
class JarLock:
    """All jars of one version of a program; `fingerprint` is part of the name of the folder they are installed in."""

    version: str
    jars: tuple[LockedJar, ...]
    name: str = "kafka"

    @property
    def folder(self) -> str:
        """Name of the folder that the jars are installed in."""
        return f"{self.name}-{self.version}-{self.fingerprint}"

    @property
    def fingerprint(self) -> str:
        """First 12 hex digits of the SHA-256 over all entries: another lock, another folder."""
        lines = sorted(f"{jar.coordinate} {jar.sha256}" for jar in self.jars)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def load_lock(path: Path = LOCK_FILE) -> JarLock:
    """Read a lock file; raises StackError when an entry has no usable coordinate or checksum."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise StackError(f"{path}: not a readable lock file ({error}); reinstall meterfold") from error
    jars = []
    for entry in document.get("jar", []):
        coordinate, sha256 = str(entry.get("coordinate", "")), str(entry.get("sha256", ""))
        if not _COORDINATE.fullmatch(coordinate) or not _SHA256.fullmatch(sha256):
            raise StackError(f"{path}: entry {entry!r} has no coordinate with a SHA-256; reinstall meterfold")
        group, artifact, version = coordinate.split(":")
        jars.append(LockedJar(group, artifact, version, sha256))
    program, release = document.get("name"), document.get("version")
    if not jars or not isinstance(program, str) or not isinstance(release, str):
        raise StackError(f"{path}: has no name, no version or no jar; reinstall meterfold")
    return JarLock(release, tuple(jars), program)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def matches(jar: LockedJar, path: Path) -> bool:
    """Whether the file exists and is the locked jar, byte for byte."""
    return path.is_file() and sha256_of(path) == jar.sha256
