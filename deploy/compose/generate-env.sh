#!/bin/sh
# Writes the passwords of compose.yaml into .env beside it, readable by its owner only. An existing file is kept.
set -eu
file=${1:-$(dirname "$0")/.env}
if [ -e "$file" ]; then
    echo "$file exists and is kept. Passwords that services were started with cannot be changed here." >&2
    exit 1
fi
random() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
umask 077
{
    echo "CLICKHOUSE_PASSWORD=$(random 24)"
    echo "CLICKHOUSE_READ_PASSWORD=$(random 24)"
    echo "GRAFANA_PASSWORD=$(random 24)"
    # Under which tokens of the HTTP API are stored.
    echo "HTTP_TOKEN_KEY=$(random 32)"
    # 16 random bytes, as Kafka encodes ids: URL-safe base64 without padding.
    echo "KAFKA_CLUSTER_ID=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | cut -c 1-22)"
} >"$file"
echo "$file has the passwords"
