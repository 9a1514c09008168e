"""Tests the alert rules of deploy/prometheus with promtool: `make test-deploy`.

promtool is $PROMTOOL, or the one on PATH, or Debian's, which is unpacked into a cache folder without being installed.
Exit status 1 when a rule fails, 3 when there is no promtool.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meterfold" / "tools"
FETCH_SECONDS = 120
TEST_SECONDS = 120
UNAVAILABLE = 3
COMMANDS = (
    ("check", "config", "prometheus.yml"),
    ("check", "rules", "alerts.yml"),
    ("test", "rules", "tests.yml"),
)


def main() -> int:
    tool = find()
    if not tool:
        print("promtool: NOT RUN; install Prometheus, or set PROMTOOL to its promtool", flush=True)
        return UNAVAILABLE
    failed = False
    for command in COMMANDS:
        failed |= subprocess.run([tool, *command], cwd=FOLDER, timeout=TEST_SECONDS).returncode != 0
    print("promtool: " + ("FAILED" if failed else "the rules and their tests pass"), flush=True)
    return int(failed)


def find() -> str | None:
    """The path of promtool."""
    return os.environ.get("PROMTOOL") or shutil.which("promtool") or cached() or fetched()


def cached() -> str | None:
    """What an earlier run has unpacked."""
    return shutil.which("promtool", path=str(CACHE))


def fetched() -> str | None:
    """The promtool of Debian's package, or None where apt-get or the package cannot be had."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(
                ["apt-get", "-q", "download", "prometheus"],
                cwd=folder,
                timeout=FETCH_SECONDS,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            (package,) = Path(folder).glob("prometheus_*.deb")
            subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=folder, timeout=FETCH_SECONDS, check=True)
            CACHE.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(folder) / "usr" / "bin" / "promtool", CACHE / "promtool")
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            print(f"promtool: Debian's package prometheus could not be fetched: {error}", flush=True)
            return None
    return cached()


if __name__ == "__main__":
    sys.exit(main())
