"""Where the delivered events are in the log: a bit for each offset, so ten million events are about a megabyte."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from meterfold import Delivery

__all__ = ["PAGE", "Deliveries"]

#: Offsets of one page of bits.
PAGE: Final = 1 << 20
_WAITING: Final = 1 << 14


class Deliveries:
    """Collects delivery reports. `report` may be called from any thread; read it when all reports are in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, array[int]] = {}
        self._pages: dict[tuple[int, int], npt.NDArray[np.uint8]] = {}
        self.unlocated = 0
        """Delivered events whose offset the broker did not say."""

    def report(self, delivery: Delivery) -> None:
        """The `on_delivery` of a Meter."""
        if not delivery.delivered:
            return
        partition, offset = delivery.partition, delivery.offset
        with self._lock:
            if partition is None or offset is None or partition < 0 or offset < 0:
                self.unlocated += 1
                return
            waiting = self._waiting.setdefault(partition, array("q"))
            waiting.append(offset)
            if len(waiting) >= _WAITING:
                self._keep(partition)

    def last(self) -> dict[int, int]:
        """partition -> the highest offset in it."""
        self._keep_all()
        last: dict[int, int] = {}
        for (partition, page), bits in self._pages.items():
            byte = int(np.flatnonzero(bits)[-1])
            last[partition] = max(last.get(partition, -1), page * PAGE + byte * 8 + int(bits[byte]).bit_length() - 1)
        return last

    def pages(self) -> Iterator[tuple[int, int, npt.NDArray[np.bool_]]]:
        """(partition, first offset of a page, for each of its PAGE offsets whether it is one of ours), in order."""
        self._keep_all()
        for (partition, page), bits in sorted(self._pages.items(), key=lambda entry: entry[0]):
            yield partition, page * PAGE, np.unpackbits(bits, bitorder="little").view(np.bool_)

    def _keep_all(self) -> None:
        with self._lock:
            for partition in self._waiting:
                self._keep(partition)

    def _keep(self, partition: int) -> None:
        offsets = np.frombuffer(self._waiting[partition].tobytes(), np.int64)
        self._waiting[partition] = array("q")
        for page in np.unique(offsets // PAGE):
            places = offsets[offsets // PAGE == page] % PAGE
            bits = self._pages.setdefault((partition, int(page)), np.zeros(PAGE // 8, np.uint8))
            np.bitwise_or.at(bits, places >> 3, np.uint8(1) << (places & 7).astype(np.uint8))
