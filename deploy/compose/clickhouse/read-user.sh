#!/bin/bash
# Run by the image of ClickHouse before its first start: the roles, and the user that Grafana reads with.
set -euo pipefail
client=(clickhouse-client --user "$CLICKHOUSE_USER" --password "$CLICKHOUSE_PASSWORD" --multiquery)
"${client[@]}" </meterfold/roles.sql
"${client[@]}" <<SQL
CREATE USER IF NOT EXISTS \`meterfold-read\` IDENTIFIED WITH sha256_password BY '${CLICKHOUSE_READ_PASSWORD}'
    DEFAULT ROLE meterfold_read_all;
GRANT meterfold_read_all TO \`meterfold-read\`;
SQL
