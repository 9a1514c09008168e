"""CPU time and memory of the processes of a peer, children included."""

from __future__ import annotations

from collections.abc import Sequence

import psutil


class Watch:
    """Samples process trees. A process that has ended keeps the CPU time that it was last seen with."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = list(pids)
        self._cpu: dict[int, float] = {}
        self.peak = 0

    def sample(self) -> float:
        """CPU seconds of all processes since they began; raises the peak of their memory together, in bytes."""
        memory = 0
        for process in self._trees():
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
