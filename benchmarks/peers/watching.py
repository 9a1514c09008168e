"""CPU time and memory of the processes of a peer, children included."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

REFRESH_SAMPLES = 20
"""Samples between two searches for children, each of which reads every process of the machine."""


class Watch:
    """Samples process trees. A process that has ended keeps the CPU time that it was last seen with."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = list(pids)
        self._processes: list[psutil.Process] = []
        self._samples = 0
        self._cpu: dict[int, float] = {}
        self.peak = 0

    def sample(self) -> float:
        """CPU seconds of all processes since they began; raises the peak of their memory together, in bytes."""
        if self._samples % REFRESH_SAMPLES == 0:
            self._processes = self._trees()
        self._samples += 1
        memory = 0
        for process in self._processes:
            try:
                times = process.cpu_times()
                memory += process.memory_info().rss
            except psutil.Error:  # it ended in between
                continue
            self._cpu[process.pid] = max(times.user + times.system, self._cpu.get(process.pid, 0.0))
        self.peak = max(self.peak, memory)
        return sum(self._cpu.values())

    def _trees(self) -> list[psutil.Process]:
        found = []
        for pid in self._pids:
            try:
                root = psutil.Process(pid)
                found += [root, *root.children(recursive=True)]
            except psutil.Error:
                continue
        return found
