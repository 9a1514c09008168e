"""Subjects of one partition as small numbers (slots), so that everything else can be columns of numbers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from meterfold_processor.fold.subjects import SUBJECT, subject_keys
from meterfold_schemas.keys import subject_key

Int64s = npt.NDArray[np.int64]
Subject = tuple[str, str, str, str]
"""org_id, metric_key, subject_type, subject_id."""


class Subjects:
    """Slots are given once and live as long as the partition is assigned."""

    def __init__(self) -> None:
        self._slots: dict[bytes, int] = {}
        self._names: list[Subject] = []
        self._of_metric: dict[tuple[str, str], list[int]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, slot: int) -> Subject:
        return self._names[slot]

    def slots(self, rows: pl.DataFrame) -> Int64s:
        """The slot of each row (the four columns of a subject); unknown subjects are added."""
        keys = subject_keys(rows).to_list()
        known = self._slots
        found = [known.get(key, -1) for key in keys]
        if -1 in found:
            for row, slot in enumerate(found):
                if slot < 0:
                    found[row] = self._add(keys[row], rows.row(row)[:4])
        return np.array(found, dtype=np.int64)

    def slot(self, subject: Subject) -> int:
        """The slot of one subject, added if it is unknown."""
        key = subject_key(*subject)
        slot = self._slots.get(key)
        return self._add(key, subject) if slot is None else slot

    def of_metric(self, org_id: str | None, metric_key: str) -> Iterable[int]:
        """The slots of a metric in one organization, or in all (None)."""
        if org_id is not None:
            return self._of_metric.get((org_id, metric_key), [])
        return [slot for (_, key), slots in self._of_metric.items() if key == metric_key for slot in slots]

    def _add(self, key: bytes, subject: Subject) -> int:
        known = self._slots.get(key)
        if known is not None:
            return known
        slot = len(self._names)
        self._slots[key] = slot
        self._names.append(subject)
        self._of_metric.setdefault((subject[0], subject[1]), []).append(slot)
        return slot


__all__ = ["SUBJECT", "Subject", "Subjects"]
