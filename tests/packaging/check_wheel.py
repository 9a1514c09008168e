"""Build the wheel and look at it as a user would: what it installs, and that the SDK runs on its own.

Run by `make check`. It installs the wheel into a new virtual environment, without any extra.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "meterfold_schemas",
    "meterfold",
    "meterfold_sink",
    "meterfold_processor",
    "meterfold_service",
    "meterfold_cli",
    "meterfold_local",
}
NOT_NEEDED = ("pytest", "polars", "pyarrow", "numpy", "clickhouse_connect", "chdb", "typer")
DATA = (
    "meterfold_cli/importing/presets/focus-1.3.toml",
    "meterfold_local/kafka/kafka.lock.toml",
    "meterfold_schemas/asyncapi.json",
    "meterfold_schemas/avro/",
    "meterfold_schemas/examples/",
    "meterfold_schemas/json_schema/",
    "meterfold_schemas/vectors/",
    "meterfold_service/console/static/console.css",
    "meterfold_service/console/static/vendor/",
    "meterfold_service/console/templates/",
    "meterfold_sink/migrations/",
)

CONSUMER = """
from meterfold import AsyncMeter, Meter
from meterfold.testing import InMemoryMeter
from meterfold_schemas.settings import KafkaSettings

def application(meter: Meter) -> Meter:
    meter.record("api.calls", ("user", "ada"))
    return meter

async def awaiting(meter: AsyncMeter) -> int | None:
    return (await meter.record("api.calls", ("user", "ada"), confirm=True)).offset

application(InMemoryMeter())

settings: KafkaSettings = KafkaSettings(bootstrap_servers="127.0.0.1:1")
"""

ALONE = f"""
import importlib, importlib.util, sys
import meterfold.testing
from meterfold import Meter
loaded = [name for name in {NOT_NEEDED!r} if name in sys.modules]
installed = [name for name in {NOT_NEEDED!r} if importlib.util.find_spec(name)]
assert not loaded and not installed, (loaded, installed)
print(Meter.__module__)
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(str(part) for part in command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def check_contents(wheel: Path) -> None:
    """Exactly these packages at top level, typed, with the data files that they read."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    expect(top == PACKAGES, f"the wheel installs {sorted(top)}, not {sorted(PACKAGES)}")
    for package in PACKAGES:
        expect(f"{package}/py.typed" in names, f"{package} has no py.typed")
    for path in DATA:
        expect(any(name.startswith(path) and not name.endswith("/") for name in names), f"{path} is missing")
    licences = [name for name in names if name.endswith("/licenses/LICENSE")]
    expect(len(licences) == 1, "the licence is missing")
    compiled = [name for name in names if name.endswith((".pyc", ".db", ".log")) or "/." in name]
    expect(not compiled, f"should not be shipped: {compiled}")


def check_installed(wheel: Path, folder: Path) -> None:
    """Without extras: the SDK imports, nothing heavy comes along, and its types are visible to mypy --strict."""
    environment = folder / "venv"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    run(python, "-c", ALONE, cwd=folder)
    (folder / "consumer.py").write_text(textwrap.dedent(CONSUMER))
    run(sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "consumer.py", cwd=folder)
    run(python, "consumer.py", cwd=folder)


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(f"wheel: {otherwise}")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "dist", ROOT)
        wheels = list((folder / "dist").glob("*.whl"))
        expect(len(wheels) == 1, f"built {wheels}")
        check_contents(wheels[0])
        check_installed(wheels[0], folder)
        sys.stdout.write(f"{wheels[0].name}: {len(PACKAGES)} packages, typed; the SDK runs without extras\n")


if __name__ == "__main__":
    main()
