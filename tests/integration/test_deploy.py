"""The files of deploy/ against the real servers: the SQL of the dashboards, and our processes as the files start
them."""

from __future__ import annotations

import pytest

from meterfold_schemas.settings import ClickHouseSettings
from meterfold_sink.client import connect
from support.dashboards import DASHBOARDS, load, statements

pytestmark = pytest.mark.stack


def test_clickhouse_runs_every_statement_of_the_dashboards(
    tables: None, clickhouse_settings: ClickHouseSettings
) -> None:
    found = [sql for path in DASHBOARDS for sql in statements(load(path)).values()]
    assert len(found) >= 9
    client = connect(clickhouse_settings)
    for sql in found:
        client.query(sql)
    client.close()
