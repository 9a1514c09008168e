"""Every metric of both kinds of worker: its value from the worker's status, and its line in the documentation."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from meterfold_processor.backoff import Troubles
from meterfold_processor.checker.status import CheckerStatus
from meterfold_processor.durations import BOUNDS, Durations
from meterfold_processor.fold.status import FoldStatus, Stages
from meterfold_processor.kafka.membership import MembershipState
from meterfold_processor.probes.checker import CheckerSubject
from meterfold_processor.probes.fold import FoldSubject
from meterfold_processor.probes.metrics import registry
from meterfold_processor.probes.vitals import Vitals, WorkerKind
from support.exported import exported
from support.paths import ROOT

Samples = dict[tuple[str, str], float]
"""(name, value of its label or "") -> value"""

DOCUMENT = ROOT / "docs" / "operations.md"


def scrape(subject: WorkerKind) -> Samples:
    vitals = Vitals(subject, 120.0, lambda: 1_000.0)
    text = generate_latest(registry(vitals)).decode()
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("meterfold_"):
                samples[
                    sample.name, ",".join(sample.labels[label] for label in sorted(sample.labels, reverse=True))
                ] = sample.value
    return samples


def took(*seconds: float) -> Durations:
    durations = Durations()
    for value in seconds:
        durations.observe(value)
    return durations


def fold_status() -> FoldStatus:
    status = FoldStatus(
        consumed=120,
        counted=100,
        duplicates=15,
        rejected=5,
        flushes=9,
        last_flush=time.monotonic() - 3.0,
        stages=Stages({"decode": 1.5, "fold": 2.5}),
        partitions=[0, 1, 2],
        holds={2: "0102030405060708"},
        errors=Troubles(flush="ClickHouse could not be reached"),
        memory={
            "subjects": 11,
            "windows": 44,
            "identities": 1_000,
            "identity_bytes": 2_560,
            "partitions_loading": 1,
            "pending": 6,
        },
        durations={"records": took(0.002, 0.3), "windows": took()},
        readable=took(0.25, 1.0),
        recorded=took(0.5),
        positions={0: 50, 1: 70, 2: 12},
        stamps={0: 990_000_000, 1: 1_000_500_000},
        log_ends={1: (71, 70)},
        backup=(400.0, 4_600.0),
    )
    status.reasons.update({"undecodable": 3, "too_old": 2})
    status.membership.seen = MembershipState(
        999.0, True, True, "coordinator up, member steady", {0: 60, 1: 71, 2: 15, 9: 3}
    )
    return status


FOLD: Samples = {
    ("meterfold_fold_alive", ""): 1,
    ("meterfold_fold_ready", ""): 0,
    ("meterfold_fold_group_member", ""): 1,
    ("meterfold_fold_assigned_partitions", ""): 3,
    ("meterfold_fold_lag_messages", "0"): 10,
    ("meterfold_fold_lag_messages", "1"): 0,
    ("meterfold_fold_lag_messages", "2"): 3,
    ("meterfold_fold_next_offset", "0"): 50,
    ("meterfold_fold_next_offset", "1"): 71,
    ("meterfold_fold_next_offset", "2"): 12,
    ("meterfold_fold_standstill_seconds", "0"): 0,
    ("meterfold_fold_standstill_seconds", "1"): 0,
    ("meterfold_fold_standstill_seconds", "2"): 0,
    ("meterfold_fold_held_partitions", ""): 1,
    ("meterfold_fold_errors", "flush"): 1,
    ("meterfold_fold_consumed_messages_total", ""): 120,
    ("meterfold_fold_counted_events_total", ""): 100,
    ("meterfold_fold_duplicate_events_total", ""): 15,
    ("meterfold_fold_rejected_messages_total", "undecodable"): 3,
    ("meterfold_fold_rejected_messages_total", "too_old"): 2,
    ("meterfold_fold_rejected_messages_total", "in_future"): 0,
    ("meterfold_fold_rejected_messages_total", "invalid"): 0,
    ("meterfold_fold_rejected_messages_total", "misrouted"): 0,
    ("meterfold_fold_arrival_to_readable_seconds_count", ""): 2,
    ("meterfold_fold_arrival_to_readable_seconds_sum", ""): 1.25,
    ("meterfold_fold_recorded_to_readable_seconds_count", ""): 1,
    ("meterfold_fold_recorded_to_readable_seconds_sum", ""): 0.5,
    ("meterfold_fold_freshness_seconds", "0"): 10,
    ("meterfold_fold_freshness_seconds", "1"): 0,
    ("meterfold_fold_backup_age_seconds", ""): 600,
    ("meterfold_fold_backup_left_seconds", ""): 3_600,
    ("meterfold_fold_flushes_total", ""): 9,
    ("meterfold_fold_flush_step_seconds_count", "records"): 2,
    ("meterfold_fold_flush_step_seconds_sum", "records"): 0.302,
    ("meterfold_fold_flush_step_seconds_count", "windows"): 0,
    ("meterfold_fold_flush_step_seconds_sum", "windows"): 0,
    ("meterfold_fold_last_flush_age_seconds", ""): 3,
    ("meterfold_fold_stage_cpu_seconds_total", "decode"): 1.5,
    ("meterfold_fold_stage_cpu_seconds_total", "fold"): 2.5,
    ("meterfold_fold_subjects", ""): 11,
    ("meterfold_fold_open_windows", ""): 44,
    ("meterfold_fold_remembered_identities", ""): 1_000,
    ("meterfold_fold_remembered_identities_bytes", ""): 2_560,
    ("meterfold_fold_loading_partitions", ""): 1,
    ("meterfold_fold_pending_records", ""): 6,
}


def checker_status() -> CheckerStatus:
    status = CheckerStatus(
        consumed=40,
        damaged=1,
        poison_definitions=2,
        emitted={"usage.aggregated": 30, "threshold.state": 4},
        transactions=12,
        aborts=3,
        last_step=time.monotonic() - 2.0,
        durations=took(0.02, 0.04),
        assigned=[0, 1],
        partitions=[0],
        positions={0: 20},
        waiting=7,
        memory=4_096,
        sweeps={"judge": 1, "emit": 2},
        windows=9,
        mirrored={"thresholds": 5},
        errors=Troubles(mirror="ClickHouse could not be reached"),
    )
    status.membership.seen = MembershipState(999.0, False, True, "coordinator up, member wait-join", {0: 22, 1: 5})
    return status


CHECKER: Samples = {
    ("meterfold_checker_alive", ""): 1,
    ("meterfold_checker_ready", ""): 0,
    ("meterfold_checker_group_member", ""): 0,
    ("meterfold_checker_assigned_partitions", ""): 2,
    ("meterfold_checker_lag_messages", "0"): 2,
    ("meterfold_checker_next_offset", "0"): 20,
    ("meterfold_checker_standstill_seconds", "0"): 0,
    ("meterfold_checker_standstill_seconds", "1"): 0,
    ("meterfold_checker_held_partitions", ""): 0,
    ("meterfold_checker_errors", "mirror"): 1,
    ("meterfold_checker_consumed_windows_total", ""): 40,
    ("meterfold_checker_damaged_messages_total", ""): 1,
    ("meterfold_checker_poison_definitions", ""): 2,
    ("meterfold_checker_emitted_messages_total", "usage.aggregated"): 30,
    ("meterfold_checker_emitted_messages_total", "threshold.state"): 4,
    ("meterfold_checker_transactions_total", ""): 12,
    ("meterfold_checker_transaction_aborts_total", ""): 3,
    ("meterfold_checker_step_seconds_count", ""): 2,
    ("meterfold_checker_step_seconds_sum", ""): 0.06,
    ("meterfold_checker_last_step_age_seconds", ""): 2,
    ("meterfold_checker_waiting_windows", ""): 7,
    ("meterfold_checker_pending_sweeps", "judge"): 1,
    ("meterfold_checker_pending_sweeps", "emit"): 2,
    ("meterfold_checker_windows", ""): 9,
    ("meterfold_checker_memory_bytes", ""): 4_096,
    ("meterfold_checker_mirrored_rows_total", "thresholds"): 5,
}


def without_buckets(samples: Samples) -> Samples:
    return {key: value for key, value in samples.items() if not key[0].endswith("_bucket")}


@pytest.mark.parametrize(
    ("make", "expected"),
    [(lambda: FoldSubject(fold_status(), lambda: 1_000.0), FOLD), (lambda: CheckerSubject(checker_status()), CHECKER)],
    ids=["fold", "checker"],
)
def test_every_metric_shows_what_the_status_says(make: Callable[[], WorkerKind], expected: Samples) -> None:
    found = without_buckets(scrape(make()))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if "_age_" in key[0]:  # however long the machine took in between
            assert value <= found[key] < value + 60, key
        else:
            assert found[key] == pytest.approx(value), key


def test_a_worker_that_has_just_started_has_metrics_already() -> None:
    fold, checker = scrape(FoldSubject(FoldStatus())), scrape(CheckerSubject(CheckerStatus()))
    assert (fold["meterfold_fold_ready", ""], fold["meterfold_fold_counted_events_total", ""]) == (0, 0)
    assert ("meterfold_fold_last_flush_age_seconds", "") not in fold
    assert (checker["meterfold_checker_ready", ""], checker["meterfold_checker_transactions_total", ""]) == (0, 0)


def test_memory_is_gone_with_the_partitions() -> None:
    status = fold_status()
    status.partitions, status.positions = [], {}
    found = scrape(FoldSubject(status))
    assert found["meterfold_fold_remembered_identities", ""] == 0
    assert found["meterfold_fold_open_windows", ""] == 0


def test_buckets_add_up() -> None:
    buckets = took(0.0, 0.005, 0.006, 29.0, 31.0, 1e9).buckets()
    assert [name for name, _ in buckets] == [*map(str, BOUNDS), "+Inf"]
    by_name = dict(buckets)
    assert (by_name["0.005"], by_name["0.01"], by_name["10.0"], by_name["30.0"], by_name["+Inf"]) == (2, 3, 3, 4, 6)
    found = scrape(FoldSubject(FoldStatus(durations={"records": took(0.006)})))
    assert found["meterfold_fold_flush_step_seconds_bucket", "records,0.005"] == 0
    assert found["meterfold_fold_flush_step_seconds_bucket", "records,+Inf"] == 1


def test_behind_the_last_event_can_be_transaction_markers_that_are_no_lag() -> None:
    def lag(position: int, reached: tuple[int, int] | None, end: int) -> float:
        status = FoldStatus(partitions=[0], positions={0: position})
        status.log_ends = {} if reached is None else {0: reached}
        status.membership.seen = MembershipState(999.0, True, True, "", {0: end})
        return scrape(FoldSubject(status))["meterfold_fold_lag_messages", "0"]

    assert lag(7, None, 8) == 1
    assert lag(7, (8, 7), 8) == 0
    assert lag(6, (8, 7), 8) == 2, "an event before the marker is not flushed yet"
    assert lag(7, (8, 7), 11) == 3
    assert lag(7, (9, 7), 8) == 0, "the end that was reached may be newer than the one of the statistics"


def test_a_held_partition_keeps_its_lag_though_the_end_was_reached_before() -> None:
    status = FoldStatus(partitions=[0], positions={0: 7}, holds={0: "ab"}, log_ends={0: (9, 7)})
    status.membership.seen = MembershipState(999.0, True, True, "", {0: 9})
    place = FoldSubject(status).observe().places[0]
    assert (place.lag, place.held) == (2, "unknown schema ab")


def test_every_metric_is_documented_and_no_other() -> None:
    text = DOCUMENT.read_text(encoding="utf-8").split("## Health and metrics")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `(meterfold_\w+)`", text, re.MULTILINE))
    documented |= {
        name.replace("_*_", f"_{kind}_")
        for name in re.findall(r"^\| `(meterfold_\*_\w+)`", text, re.MULTILINE)
        for kind in ("fold", "checker", "notify")
    }
    names = {
        re.sub(r"(?<=_seconds)_(count|sum|bucket|created)$", "", name)
        for name in exported()
        if name.startswith("meterfold_")
    }
    assert documented == {name for name in names if not name.endswith("_created")}
