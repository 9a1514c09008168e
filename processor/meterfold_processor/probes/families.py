"""Metric families in one line each; every name gets the prefix meterfold_."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from meterfold_processor.durations import Durations

PREFIX = "meterfold_"

Labelled = Mapping[str, float] | Mapping[int, float]


def counter(name: str, text: str, value: float | Labelled, *labels: str) -> CounterMetricFamily:
    """`_total` is appended. With labels `value` maps their values to numbers."""
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for values, number in _samples(value):
        family.add_metric(values, number)
    return family


def gauge(name: str, text: str, value: float | Labelled | None, *labels: str) -> GaugeMetricFamily:
    """No sample where the value is None."""
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for values, number in () if value is None else _samples(value):
        family.add_metric(values, number)
    return family


def histogram(name: str, text: str, value: Durations | Mapping[str, Durations], *labels: str) -> HistogramMetricFamily:
    family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
    if isinstance(value, Durations):
        family.add_metric((), value.buckets(), value.total)
    else:
        for key, durations in value.items():
            family.add_metric((key,), durations.buckets(), durations.total)
    return family


def _samples(value: float | Labelled) -> list[tuple[tuple[str, ...], float]]:
    if not isinstance(value, Mapping):
        return [((), value)]
    return [((str(key),), number) for key, number in value.items()]
