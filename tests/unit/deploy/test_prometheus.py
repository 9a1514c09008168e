"""deploy/prometheus: the alerts use metrics and labels that workers export, each has a test and a section of the
runbook. `make test-deploy` runs the tests of the rules themselves, with promtool."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from support import promql
from support.exported import exported
from support.paths import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOK = ROOT / "docs" / "runbook.md"


def load(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in load("alerts.yml")["groups"] for rule in group["rules"]
}


def test_there_are_alerts_for_what_customers_would_notice() -> None:
    assert {"MeterfoldUsageStale", "MeterfoldFoldLag", "MeterfoldPartitionHeld", "MeterfoldPartitionStuck"} <= set(
        RULES
    )
    assert {"MeterfoldEventsRejected", "MeterfoldCheckerBehind", "MeterfoldMirrorBehind"} <= set(RULES)
    assert len(RULES) == sum(len(group["rules"]) for group in load("alerts.yml")["groups"]), "a name occurs twice"


@pytest.mark.parametrize("name", RULES)
def test_every_metric_and_label_of_an_alert_is_exported(name: str) -> None:
    promql.check(RULES[name]["expr"], exported())


@pytest.mark.parametrize("name", RULES)
def test_every_alert_says_what_happened_and_where_to_read_on(name: str) -> None:
    rule = RULES[name]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
    labels = set(re.findall(r"\$labels\.(\w+)", f"{rule['annotations']}"))
    known = frozenset().union(*(exported()[found.metric] for found in promql.selectors(rule["expr"])))
    assert labels <= (promql.labels_of_grouping(rule["expr"]) or known)


@pytest.mark.parametrize("name", RULES)
def test_every_alert_has_a_test_in_which_it_is_silent_fires_and_is_resolved(name: str) -> None:
    (test,) = [test for test in load("tests.yml")["tests"] if test["name"] == name]
    fired = [bool(case["exp_alerts"]) for case in test["alert_rule_test"]]
    assert fired[0] is fired[-1] is False
    assert sum(fired) == 1
    for series in test["input_series"]:
        promql.check(series["series"], exported())


def test_every_alert_has_a_section_of_the_runbook_and_no_section_is_left_over() -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (Meterfold\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert sections.keys() == RULES.keys()
    for name, body in sections.items():
        for part in ("**Meaning.**", "**Look at.**", "**Do.**"):
            assert body.count(part) == 1, (name, part)


def test_the_configuration_loads_the_alerts() -> None:
    assert [(FOLDER / name).is_file() for name in load("prometheus.yml")["rule_files"]] == [True]


@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus.kubernetes.yml"])
def test_the_scraped_job_is_the_one_that_alerts_name(name: str) -> None:
    jobs = {job["job_name"] for job in load(name)["scrape_configs"]}
    named = {job for rule in RULES.values() for job in re.findall(r'job="(\w+)"', rule["expr"])}
    assert named == jobs == {"meterfold"}


@pytest.mark.parametrize(
    "expression",
    [
        "meterfold_fold_lag",
        'meterfold_fold_lag_messages{topic="a"}',
        "sum by (reason) (meterfold_fold_flushes_total)",
        "vector(1)",
    ],
)
def test_what_does_not_exist_is_found(expression: str) -> None:
    with pytest.raises(AssertionError):
        promql.check(expression, exported())
