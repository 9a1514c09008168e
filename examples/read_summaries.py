"""Read usage back with clickhouse-connect, ClickHouse's own Python client.

python examples/read_summaries.py
"""

from __future__ import annotations

import clickhouse_connect

from meterfold_schemas.settings import ClickHouseSettings

QUERY = """
SELECT subject_id, total_quantity, record_count
FROM usage_monthly
WHERE metric_key = {metric:String}
ORDER BY total_quantity DESC, subject_id
"""


def main() -> None:
    settings = ClickHouseSettings.load()
    client = clickhouse_connect.get_client(
        dsn=settings.url,
        username=settings.username,
        password=settings.password.get_secret_value(),
        database=settings.database,
    )
    for subject, total, records in client.query(QUERY, parameters={"metric": "api.calls"}).result_rows:
        # A metric without a definition has records, but no total.
        shown = "no total" if total is None else f"{total:.2f}"
        print(f"{subject:10} {shown} in {records} records")


if __name__ == "__main__":
    main()
