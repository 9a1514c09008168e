"""deploy/grafana: every metric and label of the dashboards is exported, and Grafana can load the files.

tests/integration/test_deploy.py runs their SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import promql
from support.dashboards import DASHBOARDS, expressions, load, statements
from support.exported import exported
from support.paths import ROOT

PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"
pytestmark = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = load(path)["panels"]
    return found


def test_every_metric_and_label_is_exported(path: Path) -> None:
    found = expressions(load(path))
    assert found or path.stem == "business"
    for title, expression in found.items():
        try:
            promql.check(expression.replace("$job", "meterfold"), exported())
        except AssertionError as error:
            raise AssertionError(f"{title}: {error}") from error


def test_every_panel_has_a_title_a_datasource_variable_and_a_place_of_its_own(path: Path) -> None:
    found = panels(path)
    variables = {variable["name"] for variable in load(path)["templating"]["list"]}
    assert len({panel["id"] for panel in found}) == len({panel["title"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        cells = set(_cells(panel["gridPos"]))
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"] == panel["datasource"]
            assert target["datasource"]["uid"].strip("${}") in variables
    assert max(x for x, _ in taken) < 24


def test_a_dashboard_reads_usage_from_the_views(path: Path) -> None:
    for title, sql in statements(load(path)).items():
        assert "usage_windows" not in sql, f"{title}: this table has several versions of a window"
        assert "usage_records" not in sql, f"{title}: records expire"


def test_the_provisioned_datasources_are_those_that_dashboards_ask_for(path: Path) -> None:
    sources = yaml.safe_load((PROVISIONING / "datasources" / "meterfold.yml").read_text(encoding="utf-8"))
    provided = {source["type"] for source in sources["datasources"]}
    wanted = {variable["query"] for variable in load(path)["templating"]["list"] if variable["type"] == "datasource"}
    assert wanted <= provided
    assert wanted


def _cells(grid: dict[str, int]) -> Iterator[tuple[int, int]]:
    for x in range(grid["x"], grid["x"] + grid["w"]):
        for y in range(grid["y"], grid["y"] + grid["h"]):
            yield x, y
