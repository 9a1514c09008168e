"""`make test-alerts`: no alert rule is left out, and the recording is what Prometheus would have."""

from __future__ import annotations

from collections import Counter

import yaml

from alarms.cases import FAULTS
from alarms.recording import SPEED, document, samples, written
from support.paths import ROOT

RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
METRICS = """
# TYPE meterfold_fold_standstill_seconds gauge
meterfold_fold_standstill_seconds{partition="3"} 2.5
# TYPE meterfold_fold_lag_messages gauge
meterfold_fold_lag_messages{partition="3"} 7
# TYPE meterfold_fold_stage_cpu_seconds_total counter
meterfold_fold_stage_cpu_seconds_total{stage="fold"} 4
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.7e+09
# TYPE meterfold_checker_step_seconds histogram
meterfold_checker_step_seconds_bucket{le="+Inf"} 1
meterfold_checker_step_seconds_count 1
meterfold_checker_step_seconds_sum 1
"""


def test_every_alert_rule_is_fired_by_exactly_one_fault() -> None:
    names = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    fired = Counter(alert for fault in FAULTS for alert in fault.alerts)
    assert fired == Counter(names)
    assert all(not fault.fires & fault.lingering for fault in FAULTS)


def test_a_scrape_is_read_with_its_own_labels_and_durations_are_stretched() -> None:
    assert samples("fold:9400", METRICS) == {
        'meterfold_fold_standstill_seconds{instance="fold:9400",job="meterfold",partition="3"}': 2.5 * SPEED,
        'meterfold_fold_lag_messages{instance="fold:9400",job="meterfold",partition="3"}': 7,
        'meterfold_fold_stage_cpu_seconds_total{instance="fold:9400",job="meterfold",stage="fold"}': 4,
        'process_start_time_seconds{instance="fold:9400",job="meterfold"}': 1.7e9,
    }


def test_a_series_ends_where_it_is_missing() -> None:
    assert written([None, 1.0, 2.0, None, None, 1.5]) == "_ 1.0 2.0 stale _ 1.5"


def test_the_file_has_the_series_of_the_rules_and_no_others() -> None:
    ticks = [samples("fold", METRICS), {'up{instance="fold",job="meterfold"}': 0.0}]
    (test,) = yaml.safe_load(document(ticks, RULES))["tests"]
    assert {one["series"].partition("{")[0]: one["values"] for one in test["input_series"]} == {
        "meterfold_fold_standstill_seconds": "37.5 stale",
        "meterfold_fold_lag_messages": "7.0 stale",
        "process_start_time_seconds": "1700000000.0 stale",
        "up": "_ 0.0",
    }
    assert test["promql_expr_test"][0]["eval_time"] == "15s"
