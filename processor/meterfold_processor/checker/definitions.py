"""Metrics and thresholds as read from two compacted topics, and the thresholds that apply to a subject.

A *read position* is the next offset to read of its topic. It only grows, also where compaction has removed the last
message of a name: what was judged is compared by positions, never by versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TypeVar

from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_schemas.errors import Poison
from meterfold_schemas.keys import metric_definition_key
from meterfold_schemas.vocabulary import AggregationType

K = TypeVar("K")
V = TypeVar("V")

__all__ = ["Affected", "DefinitionRecord", "Definitions", "DefinitionsRead", "is_affected"]

Affected = frozenset[tuple[str | None, str]]
"""(org_id, metric_key) whose open windows have to be judged again; org_id None: every organization."""


@dataclass(frozen=True, slots=True)
class DefinitionRecord:
    """One message of `metric.defined` or `threshold.defined`; value None is the deletion."""

    kind: Literal["metric", "threshold"]
    key: bytes
    value: bytes | None
    offset: int


@dataclass(frozen=True, slots=True)
class DefinitionsRead:
    """New messages in the order of each topic, and the read positions behind them."""

    records: tuple[DefinitionRecord, ...]
    metric_position: int
    threshold_position: int


class Definitions:
    """The newest state of both topics. `poison` has the offset of each definition that cannot be read, by kind and key:
    it changes nothing, until the next message of this key."""

    def __init__(self) -> None:
        self.metric_position = 0
        self.threshold_position = 0
        self.poison: dict[tuple[str, bytes], int] = {}
        self._metrics: dict[tuple[str, str], MetricDefinition] = {}
        self._thresholds: dict[str, UsageThreshold] = {}
        self._of_metric: dict[tuple[str | None, str], dict[str | None, dict[str, UsageThreshold]]] = {}
        """By organization and metric, then by the subject_id that they name (None: any)."""

    def apply(self, read: DefinitionsRead) -> Affected:
        """Take what was read; the metrics whose windows have to be judged again. Raises UnknownSchema."""
        affected: set[tuple[str | None, str]] = set()
        for record in read.records:
            try:
                affected |= self._apply_metric(record) if record.kind == "metric" else self._apply_threshold(record)
            except Poison:
                unreadable = record.value is not None
            else:
                unreadable = False
            if unreadable:
                self.poison[record.kind, record.key] = record.offset
            else:
                self.poison.pop((record.kind, record.key), None)
        self.metric_position = max(self.metric_position, read.metric_position)
        self.threshold_position = max(self.threshold_position, read.threshold_position)
        return frozenset(affected)

    def replace(self, read: DefinitionsRead) -> Affected:
        """Start again from both topics as a whole: a process that was paused for long may have missed tombstones that
        compaction has removed.

        Returns the metrics for which anything has changed. Raises UnknownSchema.
        """
        metrics, thresholds = self._metrics, self._thresholds
        self._metrics, self._thresholds, self._of_metric, self.poison = {}, {}, {}, {}
        self.apply(read)
        affected: set[tuple[str | None, str]] = set()
        for org_id, key in _different(metrics, self._metrics):
            affected.add((org_id or None, key))
        for threshold_id in _different(thresholds, self._thresholds):
            for known in (thresholds.get(threshold_id), self._thresholds.get(threshold_id)):
                if known is not None:
                    affected.add((known.org_id, known.metric_key))
        return frozenset(affected)

    def metric(self, org_id: str, metric_key: str) -> MetricDefinition | None:
        """The metric as an organization sees it: its own definition hides the global one."""
        return self._metrics.get((org_id, metric_key)) or self._metrics.get(("", metric_key))

    def own_metric(self, org_id: str, metric_key: str) -> MetricDefinition | None:
        """The definition of exactly this organization ("" the global one)."""
        return self._metrics.get((org_id, metric_key))

    def metrics(self) -> Iterable[MetricDefinition]:
        """Every definition of a metric there is."""
        return self._metrics.values()

    def aggregation_type(self, org_id: str, metric_key: str) -> AggregationType | None:
        """None where the metric is not defined."""
        metric = self.metric(org_id, metric_key)
        return None if metric is None else metric.aggregation_type

    def threshold(self, threshold_id: str) -> UsageThreshold | None:
        return self._thresholds.get(threshold_id)

    def watched(self) -> Iterable[UsageThreshold]:
        """Every threshold there is."""
        return self._thresholds.values()

    def applicable(self, org_id: str, metric_key: str, subject_type: str, subject_id: str) -> list[UsageThreshold]:
        """The thresholds that judge a subject, by id: active ones of its organization and of every organization, where
        the metric as its organization sees it exists and is active, without those that a narrower one of the same name
        replaces."""
        metric = self.metric(org_id, metric_key)
        if metric is None or not metric.is_active:
            return []
        by_name: dict[str, list[UsageThreshold]] = {}
        for scope in _scopes(org_id):
            by_subject = self._of_metric.get((scope, metric_key), {})
            for threshold in chain(by_subject.get(None, {}).values(), by_subject.get(subject_id, {}).values()):
                if threshold.is_active and threshold.matches(org_id, subject_type, subject_id):
                    by_name.setdefault(threshold.name, []).append(threshold)
        kept = []
        for matching in by_name.values():
            narrowest = max(map(_narrowness, matching))
            kept += [threshold for threshold in matching if _narrowness(threshold) == narrowest]
        return sorted(kept, key=lambda threshold: threshold.id)

    def _apply_metric(self, record: DefinitionRecord) -> set[tuple[str | None, str]]:
        org_id, key = _metric_name(record.key)
        if record.value is None:
            self._metrics.pop((org_id, key), None)
        else:
            metric = MetricDefinition.from_bytes(record.value, version=record.offset)
            if metric.message_key != record.key:
                raise Poison("invalid", f"metric {metric.key!r} under the key {record.key!r}")
            self._metrics[org_id, key] = metric
        return {(org_id or None, key)}

    def _apply_threshold(self, record: DefinitionRecord) -> set[tuple[str | None, str]]:
        threshold = None
        if record.value is not None:
            threshold = UsageThreshold.from_bytes(record.value, version=record.offset)
            if threshold.message_key != record.key:
                raise Poison("invalid", f"threshold {threshold.id!r} under the key {record.key!r}")
        affected: set[tuple[str | None, str]] = set()
        before = self._thresholds.pop(record.key.decode("utf-8", "replace"), None)
        if before is not None:
            del self._of_metric[before.org_id, before.metric_key][before.subject_id][before.id]
            affected.add((before.org_id, before.metric_key))
        if threshold is not None:
            self._thresholds[threshold.id] = threshold
            by_subject = self._of_metric.setdefault((threshold.org_id, threshold.metric_key), {})
            by_subject.setdefault(threshold.subject_id, {})[threshold.id] = threshold
            affected.add((threshold.org_id, threshold.metric_key))
        return affected


def is_affected(affected: Affected, org_id: str, metric_key: str) -> bool:
    return (org_id, metric_key) in affected or (None, metric_key) in affected


def _different(before: dict[K, V], now: dict[K, V]) -> list[K]:
    return [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]


def _scopes(org_id: str) -> tuple[str | None, ...]:
    """The org_id of the thresholds that may match a subject of this organization."""
    return org_id, None


def _narrowness(threshold: UsageThreshold) -> tuple[bool, bool, bool]:
    return threshold.narrowness


def _metric_name(key: bytes) -> tuple[str, str]:
    try:
        match json.loads(key):
            case [str(org_id), str(name)] if metric_definition_key(org_id, name) == key:
                return org_id, name
    except ValueError:
        pass
    raise Poison("invalid", f"{key[:200]!r} is not the key of a metric")
