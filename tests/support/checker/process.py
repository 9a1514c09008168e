"""A checker as a process of its own, to be killed: python -m support.checker.process SETTINGS_JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from threading import Event

from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.checker.worker import CheckerWorker
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from support.paths import TESTS


def start(environment: dict[str, str], **settings: object) -> subprocess.Popen[bytes]:
    """It finds the stack by `environment` (see conftest.stack_environment)."""
    return subprocess.Popen(
        [sys.executable, "-m", "support.checker.process", json.dumps(settings)],
        env={**os.environ, **environment, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.DEVNULL,
    )


def main() -> None:
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = CheckerSettings(**{"emit_interval_seconds": 0.5, **json.loads(sys.argv[1])})
    CheckerWorker(settings, KafkaSettings.load(), ClickHouseSettings.load()).run(stop)


if __name__ == "__main__":
    main()
