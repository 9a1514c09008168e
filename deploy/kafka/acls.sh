#!/bin/sh
# Creates the ACLs of users.yaml with Kafka's own tools: acls.sh --bootstrap-server HOST:PORT [--command-config FILE]
# PREFIX (a variable, empty by default) is the topic prefix. Safe to repeat.
set -eu
prefix=${PREFIX:-}
connection=$*
add() {
    user=$1
    shift
    "${KAFKA_ACLS:-kafka-acls.sh}" $connection "$@" --add --allow-principal "User:$user"
}

# An application that records usage. It cannot read what anyone recorded.
add meterfold-app --topic "${prefix}usage.recorded" --operation Write --operation Describe
add meterfold-app --topic "${prefix}metric.defined" --operation Read --operation Describe
add meterfold-app --group "${prefix}meterfold-strict" --operation Describe

# `meterfold fold`
add meterfold-fold --topic "${prefix}usage.recorded" --operation Read --operation Describe \
    --operation DescribeConfigs
add meterfold-fold --topic "${prefix}usage.windows" --topic "${prefix}usage.rejected" --operation Write \
    --operation Describe
add meterfold-fold --group "${prefix}meterfold-fold" --operation Read --operation Describe
add meterfold-fold --cluster --operation Describe

# `meterfold check`, with any slot
add meterfold-check --topic "${prefix}usage.recorded" --operation Describe --operation DescribeConfigs
add meterfold-check --topic "${prefix}usage.windows" --topic "${prefix}metric.defined" \
    --topic "${prefix}threshold.defined" --topic "${prefix}alert.acted" --operation Read --operation Describe
add meterfold-check --topic "${prefix}usage.aggregated" --topic "${prefix}threshold.state" \
    --topic "${prefix}threshold.approaching" --topic "${prefix}threshold.exceeded" \
    --topic "${prefix}threshold.cleared" --operation Read --operation Write --operation Describe
add meterfold-check --group "${prefix}meterfold-checker" --resource-pattern-type prefixed --operation Read \
    --operation Describe --operation DescribeConfigs
add meterfold-check --transactional-id "${prefix}meterfold-checker-" --resource-pattern-type prefixed \
    --operation Write --operation Describe
add meterfold-check --cluster --operation Describe

# `meterfold notify`
add meterfold-notify --topic "${prefix}threshold.approaching" --topic "${prefix}threshold.exceeded" \
    --topic "${prefix}threshold.cleared" --topic "${prefix}threshold.defined" --operation Read --operation Describe
add meterfold-notify --topic "${prefix}endpoint.changed" --operation Read --operation Write --operation Describe
add meterfold-notify --group "${prefix}meterfold-notify" --operation Read --operation Describe
add meterfold-notify --cluster --operation Describe

# `meterfold metric`, `threshold`, `alert`, `periods`, `status`, and the Python API
add meterfold-service --topic "${prefix}metric.defined" --topic "${prefix}threshold.defined" \
    --topic "${prefix}alert.acted" --topic "${prefix}endpoint.changed" --operation Read --operation Write --operation Describe
add meterfold-service --topic "${prefix}usage.recorded" --topic "${prefix}usage.rejected" \
    --topic "${prefix}usage.windows" --topic "${prefix}usage.aggregated" \
    --topic "${prefix}threshold.approaching" --topic "${prefix}threshold.exceeded" \
    --topic "${prefix}threshold.cleared" --topic "${prefix}threshold.state" --operation Read \
    --operation Describe --operation DescribeConfigs
add meterfold-service --group "${prefix}meterfold-" --resource-pattern-type prefixed --operation Describe
add meterfold-service --transactional-id "${prefix}meterfold-definitions" --operation Write \
    --operation Describe
add meterfold-service --cluster --operation Describe

# `meterfold serve`, which offers all of that to whoever has a token for it, records and redrives events, and verifies
add meterfold-serve --topic "${prefix}metric.defined" --topic "${prefix}threshold.defined" \
    --topic "${prefix}alert.acted" --topic "${prefix}endpoint.changed" --topic "${prefix}usage.recorded" \
    --operation Read --operation Write --operation Describe --operation DescribeConfigs
add meterfold-serve --topic "${prefix}usage.rejected" --topic "${prefix}usage.windows" \
    --topic "${prefix}usage.aggregated" --topic "${prefix}threshold.approaching" \
    --topic "${prefix}threshold.exceeded" --topic "${prefix}threshold.cleared" \
    --topic "${prefix}threshold.state" --operation Read --operation Describe --operation DescribeConfigs
add meterfold-serve --group "${prefix}meterfold-" --resource-pattern-type prefixed --operation Describe
add meterfold-serve --transactional-id "${prefix}meterfold-definitions" --operation Write \
    --operation Describe
add meterfold-serve --cluster --operation Describe

# `meterfold rejected redrive`, which sends corrected events
add meterfold-redrive --topic "${prefix}usage.recorded" --operation Write --operation Describe
add meterfold-redrive --cluster --operation Describe

# `meterfold migrate` and `meterfold settings`
add meterfold-migrate --topic "${prefix}usage.recorded" --topic "${prefix}usage.rejected" \
    --topic "${prefix}usage.windows" --topic "${prefix}usage.aggregated" --topic "${prefix}metric.defined" \
    --topic "${prefix}threshold.defined" --topic "${prefix}threshold.approaching" \
    --topic "${prefix}threshold.exceeded" --topic "${prefix}threshold.cleared" \
    --topic "${prefix}threshold.state" --topic "${prefix}alert.acted" \
    --topic "${prefix}endpoint.changed" --operation Create --operation Describe \
    --operation DescribeConfigs --operation Alter --operation AlterConfigs
add meterfold-migrate --group "${prefix}meterfold-" --resource-pattern-type prefixed --operation Describe
add meterfold-migrate --cluster --operation Describe

# `meterfold verify`, which only reads
add meterfold-verify --topic "${prefix}usage.recorded" --topic "${prefix}usage.rejected" \
    --topic "${prefix}usage.windows" --topic "${prefix}usage.aggregated" --topic "${prefix}metric.defined" \
    --topic "${prefix}threshold.defined" --topic "${prefix}threshold.approaching" \
    --topic "${prefix}threshold.exceeded" --topic "${prefix}threshold.cleared" \
    --topic "${prefix}threshold.state" --topic "${prefix}alert.acted" --topic "${prefix}endpoint.changed" \
    --operation Read --operation Describe --operation DescribeConfigs
add meterfold-verify --group "${prefix}meterfold-" --resource-pattern-type prefixed --operation Describe
add meterfold-verify --cluster --operation Describe

# `meterfold backup`, which compares a backup with the log
add meterfold-backup --topic "${prefix}usage.recorded" --operation Read --operation Describe \
    --operation DescribeConfigs
add meterfold-backup --group "${prefix}meterfold-" --resource-pattern-type prefixed --operation Describe
add meterfold-backup --cluster --operation Describe
