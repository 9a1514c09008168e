"""A typed client that openapi-python-client made of docs/openapi.json, against the running server."""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any

from meterfold_client import AuthenticatedClient
from meterfold_client.api.limits import limits_get
from meterfold_client.api.metrics import (
    metrics_define,
    metrics_get,
    metrics_list,
    metrics_preview_delete,
    metrics_preview_update,
    metrics_update,
)
from meterfold_client.api.periods import periods_close_due
from meterfold_client.api.proofs import proofs_get, proofs_start
from meterfold_client.api.subjects import subjects_find, subjects_metrics
from meterfold_client.api.thresholds import thresholds_create, thresholds_nearest, thresholds_preview_create
from meterfold_client.api.usage import usage_get, usage_summary
from meterfold_client.models import (
    Action,
    AggregationType,
    CloseRun,
    Metric,
    MetricChanges,
    MetricContent,
    Problem,
    RecordList,
    ThresholdContent,
)

client = AuthenticatedClient(os.environ["METERFOLD_URL"], os.environ["METERFOLD_TOKEN"], timeout=60)
start = datetime.fromisoformat(os.environ["METERFOLD_START"])


def expect(holds: bool, otherwise: Any) -> None:
    if not holds:
        raise SystemExit(f"unexpected: {otherwise}")


def eventually(probe: Any) -> Any:
    until = time.monotonic() + 60
    while not (found := probe()) and time.monotonic() < until:
        time.sleep(0.1)
    return found


content = MetricContent(key="py.calls", name="Calls", unit="calls")
defined = metrics_define.sync(client=client, body=content)
expect(isinstance(defined, Metric) and defined.aggregation_type == "sum", defined)
changed = metrics_update.sync("py.calls", client=client, body=MetricChanges(unit="call"))
expect(isinstance(changed, Metric) and (changed.unit, changed.name) == ("call", "Calls"), changed)

keys, cursor = [], None
while True:
    more = {} if cursor is None else {"cursor": cursor}
    page = metrics_list.sync(client=client, limit=1, sort="key", **more)
    keys += [metric.key for metric in page.data]
    if (cursor := page.next_cursor) is None:
        break
expect(keys == sorted(keys) and {"api.calls", "py.calls"} <= set(keys), keys)

totals = usage_summary.sync("api.calls", client=client, start=start)
expect([one.total_quantity for one in totals.data] == ["12.5"], totals)
records = usage_get.sync("api.calls", client=client, start=start, subject_type="user", subject_id="ada")
expect(isinstance(records, RecordList) and {one.quantity for one in records.data} == {"2.5", "10"}, records)

change = MetricChanges(aggregation_type=AggregationType.MAX)
preview = metrics_preview_update.sync("api.calls", client=client, body=change)
expect((preview.example.before, preview.example.after) == ("12.5", "10"), preview)
expect(metrics_preview_delete.sync("api.calls", client=client).after is None, "the metric is gone then")
found = subjects_find.sync(client=client, q="ad")
expect([one.subject_id for one in found.data] == ["ada"], found)
used = subjects_metrics.sync("user", "ada", client=client)
expect([(one.metric_key, one.records) for one in used.data] == [("api.calls", 2)], used)

body = ThresholdContent(metric_key="api.calls", name="quota", threshold="12", action=Action.BLOCK, subject_type="user")
at_once = thresholds_preview_create.sync(client=client, body=body)
expect((at_once.reached_after.windows, at_once.reached_after.exceeded) == (1, 1), at_once)
thresholds_create.sync(client=client, body=body)
blocked = eventually(lambda: (found := limits_get.sync("user", "ada", client=client)).blocked and found)
expect(bool(blocked) and blocked.limits[0].threshold == "12", blocked)

expect([one.window.subject_id for one in thresholds_nearest.sync(client=client).data] == ["ada"], "it is near")

run = periods_close_due.sync(client=client)
expect(isinstance(run, CloseRun) and run.failures == [], run)
proof = proofs_start.sync(client=client)
proof = eventually(lambda: (now := proofs_get.sync(proof.id, client=client)).state != "running" and now)
expect(bool(proof) and (proof.state, proof.summary.findings) == ("proven", []), proof)

missing = metrics_get.sync("nowhere", client=client)
expect(isinstance(missing, Problem) and missing.code == "METRIC_NOT_FOUND", missing)
print("Python client: metrics, pages, usage, thresholds, limits, previews, verifications and errors are as described")
