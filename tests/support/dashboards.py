"""The Grafana dashboards: their Prometheus expressions and SQL statements, with Grafana's macros replaced."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from support.paths import ROOT

__all__ = ["DASHBOARDS", "expressions", "load", "statements"]

DASHBOARDS: Final = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
CLICKHOUSE: Final = "grafana-clickhouse-datasource"


def load(path: Path) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return dashboard


def expressions(dashboard: dict[str, Any]) -> dict[str, str]:
    """Panel and letter -> PromQL, variables included."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        if target["datasource"]["type"] == "prometheus"
    }
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query" and variable["datasource"]["type"] == "prometheus":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            found[f"variable {variable['name']}"] = f"count by ({label}) ({metric})"
    return found


def statements(dashboard: dict[str, Any]) -> dict[str, str]:
    """Panel or variable -> SQL that ClickHouse can run: what Grafana's plugin would send."""
    found = {
        panel["title"]: target["rawSql"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        if target["datasource"]["type"] == CLICKHOUSE
    }
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query" and variable["datasource"]["type"] == CLICKHOUSE:
            found[f"variable {variable['name']}"] = variable["query"]
    return {title: _replaced(sql) for title, sql in found.items()}


def _replaced(sql: str) -> str:
    sql = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 >= toDateTime(0) AND \1 <= toDateTime(4000000000)", sql)
    sql = re.sub(r"\$\{metric_key:singlequote\}", "'api.calls'", sql)
    sql = re.sub(r"\$\{org_id:singlequote\}", "'acme', ''", sql)
    assert "$" not in sql, sql
    return sql
