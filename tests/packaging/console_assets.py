"""Fetch third-party files of the console from the npm registry, as a lock file pins them.

    python tests/packaging/console_assets.py                       the files that are shipped: make console-assets
    python tests/packaging/console_assets.py axe.lock.json FOLDER  what the tests need, into a folder

A package is taken only with the pinned integrity of its archive, a file only with its pinned SHA-256. To take a new
version, change it in the lock, remove `integrity` and `sha256`, run this, and look at what it writes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "service/meterfold_service/console/static/vendor"
LOCK = VENDOR / "vendor.lock.json"
AXE = ROOT / "tests/console/axe.lock.json"


def main(lock: Path, folder: Path) -> None:
    document = json.loads(lock.read_text(encoding="utf-8"))
    for package in document["packages"]:
        take(package, folder)
    lock.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def take(package: dict[str, Any], folder: Path) -> None:
    """The files of one package into a folder."""
    name = f"{package['name']}@{package['version']}"
    with tempfile.TemporaryDirectory() as place:
        packed = subprocess.run(
            ["npm", "pack", "--silent", name], cwd=place, capture_output=True, text=True, check=True
        ).stdout.split()[-1]
        archive = Path(place) / packed
        integrity = f"sha512-{base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()}"
        require(name, integrity, package.setdefault("integrity", integrity))
        with tarfile.open(archive) as files:
            for entry in package["files"]:
                found = files.extractfile(f"package/{entry['from']}")
                assert found is not None, entry["from"]
                content = found.read()
                digest = hashlib.sha256(content).hexdigest()
                require(entry["from"], digest, entry.setdefault("sha256", digest))
                folder.mkdir(parents=True, exist_ok=True)
                (folder / entry["to"]).write_bytes(content)


def require(what: str, found: str, pinned: str) -> None:
    if found != pinned:
        raise SystemExit(f"{what} is not what the lock pins: expected {pinned}, found {found}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(AXE.parent / sys.argv[1], Path(sys.argv[2]))
    else:
        main(LOCK, VENDOR)
