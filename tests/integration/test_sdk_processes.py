"""Processes that end without atexit, as multiprocessing ends its children, still send what they recorded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.usage import UsageRecorded
from support.kafka import consume_all, create_topics

PROCESSES = """
import multiprocessing
from meterfold import Meter

meter = Meter()

def work(number):
    for count in range(100):
        meter.record("api.calls", ("user", "u"), id=f"{number}-{count}")

context = multiprocessing.get_context("fork")
children = [context.Process(target=work, args=(number,)) for number in range(4)]
for child in children:
    child.start()
for child in children:
    child.join()
assert [child.exitcode for child in children] == [0] * 4
meter.close()
"""

POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from meterfold import Meter

meter = Meter()

def work(number):
    for count in range(100):
        meter.record("api.calls", ("user", "u"), id=f"{number}-{count}")

with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
    list(pool.map(work, range(4)))
meter.close()
"""


@pytest.mark.parametrize("program", [PROCESSES, POOL], ids=["four processes", "a pool"])
def test_children_that_fork_send_all_that_they_recorded(
    program: str, kafka_settings: KafkaSettings, stack_environment: dict[str, str], tmp_path: Path
) -> None:
    (topic,) = create_topics(kafka_settings, "usage.recorded", partitions=3, message_timestamp_type="LogAppendTime")
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300, cwd=tmp_path, env=stack_environment)
    ids = sorted(UsageRecorded.from_bytes(message.value()).id for message in consume_all(kafka_settings, topic))
    assert ids == sorted(f"{number}-{count}" for number in range(4) for count in range(100))
