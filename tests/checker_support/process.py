"""A checker as a process of its own, to be killed: python -m checker_support.process SETTINGS_JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.checker.worker import CheckerWorker
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings


def start(environment: dict[str, str], **settings: object) -> subprocess.Popen[bytes]:
    """It finds the stack by `environment` (see conftest.stack_environment)."""
    return subprocess.Popen(
        [sys.executable, "-m", "checker_support.process", json.dumps(settings)],
        env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.DEVNULL,
    )


def main() -> None:
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = CheckerSettings(**{"emit_interval_seconds": 0.5, **json.loads(sys.argv[1])})
    CheckerWorker(settings, KafkaSettings.load(), ClickHouseSettings.load()).run(stop)


if __name__ == "__main__":
    main()
