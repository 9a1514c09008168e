"""Periods are closed on the real stack: counted, compared, stored, and what moves afterwards is an adjustment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service import Metering
from support.fold.installation import METRIC, ORG, Installation, event
from support.fold.workers import running

THIS_MONTH = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
LAST_DAY = THIS_MONTH - timedelta(days=1)
"""Of the previous month: within the horizon on every day of a month."""
MONTH = LAST_DAY.replace(day=1)


def noon(quantity: Any, subject: str, minutes: int = 0, **more: Any) -> Any:
    return event(subject, quantity, timestamp=LAST_DAY + timedelta(hours=12, minutes=minutes), **more)


def define(client: Any, kind: str = "sum", key: str = METRIC, dimensions: str = "[]") -> None:
    client.command(
        "INSERT INTO metric_definitions (org_id, key, aggregation_type, dimensions, version) "
        f"VALUES ('', '{key}', '{kind}', {dimensions}, 1)"
    )


@pytest.mark.usefixtures("tables")
def test_a_month_is_closed_and_a_late_event_is_an_adjustment(
    kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> None:
    there = Installation(kafka_settings, clickhouse_settings)
    define(there.client)
    with Metering(kafka=kafka_settings, clickhouse=clickhouse_settings) as metering, running(there):
        there.send(noon(5, "ada", id="a"), noon(Decimal("2.5"), "ada", 1), noon(1, "bob"), noon(3, "eve", org_id=""))
        first = metering.aggregate("monthly", MONTH)
        assert (first.is_new, first.revision, first.metric_key) == (True, 1, "")
        assert (first.window_count, first.record_count) == (3, 4)
        assert metering.periods.close("monthly", MONTH) == metering.periods.get("monthly", MONTH)
        assert metering.periods.adjustments().rows == ()

        # Late: one window moves, one appears, one gets a duplicate and stays.
        sent = there.send(noon(10, "ada", 2), noon(7, "new"), noon(-1, "ada", 3), noon(5, "ada", id="a"))
        there.wait_folded()
        moved = {row.subject_id: row for row in metering.periods.adjustments("monthly").rows}
        assert set(moved) == {"ada", "new"}
        ada, new = moved["ada"], moved["new"]
        assert (ada.old_quantity, ada.new_quantity, ada.difference) == (Decimal("7.5"), Decimal("16.5"), Decimal(9))
        assert (ada.old_count, ada.new_count, ada.closed_at, ada.revised_at) == (2, 4, first.closed_at, None)
        assert [(ada.partition, offset) for offset in ada.offsets] == [sent[0], sent[2]]
        assert (new.old_quantity, new.new_quantity, new.difference, new.old_count) == (None, 7, 7, 0)
        assert [(new.partition, offset) for offset in new.offsets] == [sent[1]]

        again = metering.periods.close("monthly", MONTH)
        assert (again.is_new, again.revision, again.window_count, again.record_count) == (True, 2, 4, 7)
        assert metering.periods.get("monthly", MONTH, revision=1) == metering.periods.list(newest=False).rows[1]
        settled = metering.periods.adjustments("monthly").rows
        assert {(row.subject_id, row.difference, row.revised_at) for row in settled} == {
            ("ada", Decimal(9), again.closed_at),
            ("new", Decimal(7), again.closed_at),
        }
        assert metering.periods.due(["monthly"]).rows == ()
    there.close()
    assert ORG
