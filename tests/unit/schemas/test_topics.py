"""The topics as the rest of the system relies on them."""

from __future__ import annotations

import re

from meterfold_schemas.topics import NAMES, Topics, topic_specs
from support.paths import ROOT

SPECS = {spec.name: spec for spec in topic_specs(6)}


def test_every_topic_is_specified_once() -> None:
    assert sorted(SPECS) == sorted(NAMES)


def test_a_prefix_goes_before_every_name() -> None:
    assert {spec.name for spec in topic_specs(6, prefix="x.")} == {"x." + name for name in NAMES}
    topics = Topics("x.")
    properties = [name for name in dir(Topics) if isinstance(getattr(Topics, name), property)]
    assert {getattr(topics, name) for name in properties} == {"x." + name for name in NAMES}
    assert all(getattr(topics, name) == "x." + name.replace("_", ".") for name in properties)


def test_definitions_stand_on_one_partition_and_are_compacted() -> None:
    for name in ("metric.defined", "threshold.defined"):
        assert (SPECS[name].partitions, SPECS[name].count) == (1, 1)
        assert SPECS[name].config["cleanup.policy"] == "compact"


def test_what_follows_the_source_has_its_count() -> None:
    for name in ("usage.recorded", "usage.windows", "usage.aggregated", "threshold.state", "usage.rejected"):
        assert (SPECS[name].partitions, SPECS[name].count) == ("source", 6)


def test_the_brokers_stamp_is_the_arrival_time() -> None:
    assert SPECS["usage.recorded"].config["message.timestamp.type"] == "LogAppendTime"


def test_the_largest_poison_fits_with_its_headers() -> None:
    assert int(SPECS["usage.rejected"].config["max.message.bytes"]) > 1_048_588 + 64 * 1024


def test_what_consumers_in_other_languages_read_is_gzip() -> None:
    stored = {name: spec.config.get("compression.type") for name, spec in SPECS.items()}
    internal = {"usage.recorded", "usage.windows"}  # as their producers send it
    assert stored == {name: None if name in internal else "gzip" for name in NAMES}
    page = (ROOT / "docs" / "consuming.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `") and line.count(" | ") == 6]
    documented = {name: cells[5] for cells in rows for name in re.findall(r"`([a-z.]+)`", cells[0])}
    assert documented.keys() == set(NAMES) - {"usage.windows"}
    assert {name for name, words in documented.items() if words == "gzip"} == set(NAMES) - internal


def test_retention_is_set_in_milliseconds() -> None:
    specs = {spec.name: spec for spec in topic_specs(1, source_retention_seconds=60, windows_retention_seconds=5)}
    assert specs["usage.recorded"].config["retention.ms"] == "60000"
    assert specs["usage.rejected"].config["retention.ms"] == "60000"
    assert specs["usage.windows"].config["retention.ms"] == "5000"


def test_three_replicas_acknowledge_on_two() -> None:
    assert {spec.config["min.insync.replicas"] for spec in topic_specs(6, 3)} == {"2"}
    assert {spec.config["min.insync.replicas"] for spec in topic_specs(6, 1)} == {"1"}
    assert {spec.replication for spec in topic_specs(6, 3)} == {3}
