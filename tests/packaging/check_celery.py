"""Celery for real: what tasks of a prefork worker have recorded arrives when the worker is stopped.

Run by `make celery`, not by `make test`: Celery is no dependency of ours. It installs Celery beside the SDK into a new
virtual environment and uses Celery's file system transport and the local stack. librdkafka lingers for ten minutes, so
that nothing is sent unless the shutdown of the worker processes sends it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from meterfold_local.stack import LocalStack
from meterfold_schemas.usage import UsageRecorded
from support.kafka import consume_all, create_topics

ROOT = Path(__file__).parents[2]
TASKS = 200
DEADLINE = 120.0

APPLICATION = """
import os, pathlib
from celery import Celery
from meterfold import Meter

queue = os.environ["QUEUE"]
app = Celery("application", broker="filesystem://")
folders = {"data_folder_in": queue, "data_folder_out": queue, "control_folder": queue + "-control"}
app.conf.broker_transport_options = folders
app.conf.task_ignore_result = True
meter = Meter(librdkafka={"linger.ms": "600000"}, delivery_timeout=3600)


@app.task
def work(number):
    meter.record("api.calls", ("user", "u"), id=f"task-{number}")
    pathlib.Path(os.environ["DONE"], f"{number}-{os.getpid()}").touch()
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = folder / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", ROOT, "celery"], check=True
        )
        with LocalStack(folder / "stack", kafka_port=0, clickhouse_port=0) as stack:
            kafka = stack.kafka_settings()
            (topic,) = create_topics(kafka, "usage.recorded", message_timestamp_type="LogAppendTime")
            processes = run_worker(folder, python, stack)
            found = Counter(UsageRecorded.from_bytes(message.value()).id for message in consume_all(kafka, topic))
    wanted = Counter(f"task-{number}" for number in range(TASKS))
    if found != wanted:
        sys.exit(f"celery: {found.total()} of {TASKS} events arrived")
    sys.stdout.write(f"celery: {TASKS} events of {processes} worker processes arrived at the stop of the worker\n")


def run_worker(folder: Path, python: Path, stack: LocalStack) -> int:
    """Run all tasks, stop the worker as an operator does (SIGTERM); how many processes did work."""
    for part in ("queue", "queue-control", "done"):
        (folder / part).mkdir()
    (folder / "application.py").write_text(APPLICATION)
    env = {
        **stack.environment(),
        "QUEUE": str(folder / "queue"),
        "DONE": str(folder / "done"),
        "PYTHONPATH": str(folder),
    }
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "warning")
    command = [python, "-m", "celery", "-A", "application", "worker", "--pool", "prefork", "-c", "3", *quiet]
    send = f"from application import work\nfor number in range({TASKS}): work.delay(number)"
    log = (folder / "worker.log").open("wb")
    worker = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try:
        subprocess.run(
            [python, "-c", send], env=env, cwd=folder, check=True, timeout=DEADLINE, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + DEADLINE
        while len(done := [path.name for path in (folder / "done").iterdir()]) < TASKS:
            if time.monotonic() > end or worker.poll() is not None:
                sys.exit(f"celery: {len(done)} of {TASKS} tasks ran\n{(folder / 'worker.log').read_text()}")
            time.sleep(0.1)
        worker.send_signal(signal.SIGTERM)
        worker.wait(DEADLINE)
    finally:
        worker.kill()
        log.close()
    return len({name.rsplit("-", 1)[1] for name in done})


if __name__ == "__main__":
    main()
