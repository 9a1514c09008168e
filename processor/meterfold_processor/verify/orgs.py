"""Log = counted + duplicate + rejected for each organization, of the messages that the log still holds.

The organization of a message is that of its key, also where the message was rejected.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

import polars as pl

from meterfold_processor.verify.report import Finding, OrgCounts
from meterfold_sink.positions import KINDS

__all__ = ["OrgTally", "counts_of", "org_of", "summed"]

_KIND_OF = {table: kind for kind, table in KINDS.items()}


@lru_cache(maxsize=100_000)
def org_of(key: bytes) -> str | None:
    """The organization that a message key names, None where it is not a subject key."""
    try:
        match json.loads(key):
            case [str(org_id), str(), str(), str()]:
                return org_id
    except ValueError:
        pass
    return None


class OrgTally:
    """Messages and rows of one partition, by organization."""

    def __init__(self) -> None:
        self.log: Counter[str | None] = Counter()
        self.rows: Counter[tuple[str | None, str]] = Counter()

    def add_log(self, keys: pl.Series) -> None:
        self.log.update(dict(_by_org(keys)))

    def add_rows(self, table: str, rows: pl.DataFrame) -> None:
        """`rows`: org_id, or key where the table holds rejected messages."""
        kind = _KIND_OF[table]
        counted = _by_org(rows["key"]) if "key" in rows.columns else _counted(rows["org_id"])
        for org_id, count in counted:
            self.rows[org_id, kind] += count

    def counts(self) -> tuple[OrgCounts, ...]:
        """Of every organization that has a row."""
        orgs = {org_id for org_id, _ in self.rows}
        return counts_of(
            ({"org_id": org_id, **{kind: self.rows[org_id, kind] for kind in KINDS}} for org_id in orgs), self.log
        )

    def differences(self, partition: int) -> Iterator[Finding]:
        stored: Counter[str | None] = Counter()
        for (org_id, _), count in self.rows.items():
            stored[org_id] += count
        for org_id in _sorted(self.log.keys() | stored.keys()):
            if self.log[org_id] != stored[org_id]:
                parts = " + ".join(str(self.rows[org_id, kind]) for kind in KINDS)
                yield Finding(
                    check="contents",
                    place=", ".join(KINDS.values()),
                    partition=partition,
                    name="no organization" if org_id is None else f"organization {org_id!r}",
                    what="counted + duplicates + rejected, against the messages of the log",
                    expected=str(self.log[org_id]),
                    found=f"{stored[org_id]} ({parts})",
                )


def counts_of(rows: Iterable[Mapping[str, Any]], log: Mapping[str | None, int] | None) -> tuple[OrgCounts, ...]:
    """Stored positions by organization ({org_id, records, duplicates, rejected}), in order of the name."""
    found = {row["org_id"]: tuple(int(row[kind]) for kind in KINDS) for row in rows}
    return tuple(
        OrgCounts(org_id, counted, duplicates, rejected, None if log is None else log.get(org_id, 0))
        for org_id in _sorted(found)
        for counted, duplicates, rejected in [found[org_id]]
    )


def summed(partitions: Iterable[Iterable[OrgCounts]]) -> tuple[OrgCounts, ...]:
    """The organizations of all partitions together."""
    total: dict[str | None, OrgCounts] = {}
    for one in chain.from_iterable(partitions):
        before = total.get(one.org_id)
        total[one.org_id] = one if before is None else _added(before, one)
    return tuple(total[org_id] for org_id in _sorted(total))


def _added(a: OrgCounts, b: OrgCounts) -> OrgCounts:
    in_log = None if a.in_log is None or b.in_log is None else a.in_log + b.in_log
    return OrgCounts(
        a.org_id, a.counted + b.counted, a.duplicates + b.duplicates, a.rejected + b.rejected, in_log=in_log
    )


def _sorted(names: Iterable[str | None]) -> list[str | None]:
    return sorted(names, key=lambda name: (name is None, name or ""))


def _by_org(keys: pl.Series) -> Iterator[tuple[str | None, int]]:
    totals: Counter[str | None] = Counter()
    for key, count in _counted(keys):
        totals[org_of(key or b"")] += count
    yield from totals.items()


def _counted(values: pl.Series) -> Iterator[tuple[str | None, int]]:
    counts = values.alias("value").value_counts(name="count")
    yield from counts.iter_rows()
