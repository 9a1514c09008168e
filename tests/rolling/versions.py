"""A version of Meterfold to run commands of: this one, or an earlier commit, unpacked beside it."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from meterfold_cli.local_run import command
from support.paths import ROOT

__all__ = ["Version", "before_the_newest_migration"]

PACKAGES = ("schemas", "producer_sdk", "sink", "processor", "service", "deploy")


@dataclass(frozen=True, slots=True)
class Version:
    """`label` for people; `folder` has its packages, None: those of this environment. Both use its dependencies."""

    label: str
    folder: Path | None = None

    @classmethod
    def of_commit(cls, revision: str, below: Path) -> Version:
        """Unpack a commit of this repository."""
        name = _git("rev-parse", "--short", revision)
        folder = below / name
        archive = subprocess.run(["git", "archive", revision, *PACKAGES], cwd=ROOT, check=True, capture_output=True)
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as content:
            content.extractall(folder, filter="data")
        return cls(name, folder)

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        """What a process needs to find the packages of this version."""
        if self.folder is None:
            return base
        return {**base, "PYTHONPATH": os.pathsep.join(str(self.folder / name) for name in PACKAGES)}

    def run(self, *words: str, env: dict[str, str]) -> str:
        """Run a command of this version to its end; its output. AssertionError for an exit code that is not 0."""
        first, *rest = words
        done = subprocess.run(
            [*command(first), *rest], env=self.environment(env), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{self.label}: {words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def before_the_newest_migration() -> str:
    """The newest tag; without one, the commit before the newest migration was added."""
    tags = _git("tag", "--list", "v*", "--sort=-version:refname", "--merged", "HEAD").splitlines()
    if tags:
        return tags[0]
    newest = max((ROOT / "sink" / "meterfold_sink" / "migrations").glob("*.sql"))
    added = _git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(newest.relative_to(ROOT)))
    return f"{added}^" if added else "HEAD"


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
