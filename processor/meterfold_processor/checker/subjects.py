"""Subjects of one partition as small numbers (slots), so that everything else can be columns of numbers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterfold_schemas.keys import SUBJECT

__all__ = ["Subject", "SubjectSlots"]

Int64s = npt.NDArray[np.int64]
Subject = tuple[str, str, str, str]
"""org_id, metric_key, subject_type, subject_id."""

_SEPARATOR: Final = "\0"
"""In none of the four: the SDK and the fold refuse it."""


class SubjectSlots:
    """Slots are given once and live as long as the partition is assigned."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._names: list[Subject] = []
        self._of_metric: dict[str, dict[str, list[int]]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, slot: int) -> Subject:
        return self._names[slot]

    def slots(self, rows: pa.Table) -> Int64s:
        """The slot of each row (the four columns of a subject, as large_string); unknown subjects are added."""
        columns: list[Any] = [rows.column(name) for name in SUBJECT]
        names: list[str] = pc.binary_join_element_wise(*columns, pa.scalar(_SEPARATOR, pa.large_string())).to_pylist()
        known = self._slots
        found = [known.get(name, -1) for name in names]
        if -1 in found:
            found = [self._add(name) if slot < 0 else slot for name, slot in zip(names, found, strict=True)]
        return np.array(found, dtype=np.int64)

    def slot(self, subject: Subject) -> int:
        """The slot of one subject, added if it is unknown."""
        return self._add(_SEPARATOR.join(subject))

    def of_metric(self, org_id: str | None, metric_key: str) -> Iterable[int]:
        """The slots of a metric in one organization, or in all (None)."""
        by_org = self._of_metric.get(metric_key, {})
        if org_id is not None:
            return by_org.get(org_id, [])
        return chain.from_iterable(by_org.values())

    def _add(self, name: str) -> int:
        known = self._slots.get(name)
        if known is not None:
            return known
        org_id, metric_key, subject_type, subject_id = name.split(_SEPARATOR)
        slot = self._slots[name] = len(self._names)
        self._names.append((org_id, metric_key, subject_type, subject_id))
        self._of_metric.setdefault(metric_key, {}).setdefault(org_id, []).append(slot)
        return slot
