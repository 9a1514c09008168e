"""A virtual environment of a peer's own, in the user's cache: made once per content of its requirements.txt."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from meterfold_local.kafka.jars import cache_folder

__all__ = ["PreparationFailed", "python_of"]


class PreparationFailed(Exception):
    """A peer could not be installed or compiled; the message ends with the output of what failed."""


def python_of(folder: Path) -> Path:
    """The interpreter that has the requirements of this peer. Raises PreparationFailed."""
    requirements = folder / "requirements.txt"
    identity = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    target = cache_folder() / "peers" / f"{folder.name}-{identity}"
    python = target / "bin" / "python"
    if not python.exists():
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(partial)])
        pip = [str(partial / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "-r", str(requirements)])
        partial.rename(target)  # nothing in it is run by its console scripts, which name the old path
    return python


def run(command: list[str]) -> None:
    """Raises PreparationFailed with the end of the output."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise PreparationFailed(f"{' '.join(command[:6])} ... failed:\n{done.stdout[-2000:]}")
