"""CPU time and memory of processes, from the operating system."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Sample:
    """`cpu` in seconds since the process began; `memory` is the resident set in bytes."""

    cpu: float
    memory: int


def sample(pid: int) -> Sample:
    process = psutil.Process(pid)
    times = process.cpu_times()
    return Sample(times.user + times.system, process.memory_info().rss)


def describe() -> str:
    model = "unknown processor"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - no Path has this
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    load = psutil.getloadavg()[0]
    return f"{psutil.cpu_count()} cores, {model}, load {load:.1f} before the run"
