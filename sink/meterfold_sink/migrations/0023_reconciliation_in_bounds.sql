-- usage_reconciliation in bounded memory. Grouping puts to the disk what is beyond 1 GiB; until now it was half of the
-- server's memory, the default. Everything else is as in migration 0010.
CREATE OR REPLACE VIEW usage_reconciliation AS
WITH
    (SELECT toInt64OrZero(any(value)) FROM fold_settings FINAL WHERE name = 'record_retention_seconds') AS retention,
    (SELECT toInt64OrZero(any(value)) FROM fold_settings FINAL WHERE name = 'future_tolerance_seconds') AS tolerance,
    -- A record arrives at most the tolerance before its own timestamp. Without settings everything is compared.
    if(retention = 0, toDateTime64(0, 6, 'UTC'), now64(6, 'UTC') - toIntervalSecond(retention - tolerance))
        AS provable_from,
    -- The first element keeps the arrays from being empty.
    (SELECT arrayPushFront(groupArray(partition), -1) FROM (SELECT partition FROM fold_progress FINAL ORDER BY partition))
        AS partitions,
    (SELECT arrayPushFront(groupArray(next_offset), 0) FROM (SELECT next_offset FROM fold_progress FINAL ORDER BY partition))
        AS next_offsets,
    -- By the hour first: most events share their hour, and days and months need only its sums. The order of a record
    -- is its timestamp and then its offset, in one number.
    settled AS
    (
        SELECT
            r.partition AS partition, r.org_id AS org_id, r.metric_key AS metric_key, r.subject_type AS subject_type,
            r.subject_id AS subject_id, toStartOfHour(r.timestamp) AS hour,
            toInt64(count()) AS n, sum(toDecimal256(r.quantity, 9)) AS total, min(r.quantity) AS smallest,
            max(r.quantity) AS largest,
            argMax(r.quantity, bitShiftLeft(toInt128(toUnixTimestamp64Micro(r.timestamp)), 63) + r.offset) AS latest,
            argMax(r.offset, bitShiftLeft(toInt128(toUnixTimestamp64Micro(r.timestamp)), 63) + r.offset)
                AS latest_offset,
            max(r.timestamp) AS latest_at, max(r.offset) AS through
        FROM usage_records AS r FINAL
        WHERE r.offset < transform(r.partition, partitions, next_offsets, toInt64(0))
        GROUP BY partition, org_id, metric_key, subject_type, subject_id, hour
    ),
    in_flight AS
    (
        SELECT
            e.partition AS partition, e.org_id AS org_id, e.metric_key AS metric_key, e.subject_type AS subject_type,
            e.subject_id AS subject_id, e.period_type AS period_type, e.period_start AS period_start,
            e.quantity AS quantity, e.timestamp AS timestamp, e.offset AS offset
        FROM
        (
            SELECT
                r.partition AS partition, r.org_id AS org_id, r.metric_key AS metric_key,
                r.subject_type AS subject_type, r.subject_id AS subject_id, r.quantity AS quantity,
                r.timestamp AS timestamp, r.offset AS offset,
                CAST(period.1 AS Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3, 'lifetime' = 4)) AS period_type,
                period.2 AS period_start
            FROM usage_records AS r FINAL
            ARRAY JOIN
                [
                    (1, toDateTime64(toStartOfHour(r.timestamp), 6, 'UTC')),
                    (2, toDateTime64(toStartOfDay(r.timestamp), 6, 'UTC')),
                    (3, toDateTime64(toStartOfMonth(r.timestamp), 6, 'UTC'))
                ] AS period
            WHERE r.offset >= transform(r.partition, partitions, next_offsets, toInt64(0))
        ) AS e
        INNER JOIN
        (
            SELECT partition, period_type, period_start, org_id, metric_key, subject_type, subject_id, folded_through
            FROM usage_windows FINAL
            WHERE folded_through >= transform(partition, partitions, next_offsets, toInt64(0))
        ) AS w ON w.partition = e.partition AND w.period_type = e.period_type AND w.period_start = e.period_start
            AND w.org_id = e.org_id AND w.metric_key = e.metric_key AND w.subject_type = e.subject_type
            AND w.subject_id = e.subject_id
        WHERE e.offset <= w.folded_through
    ),
    -- The stored windows (is_stored), and whatever has to add up to them.
    parts AS
    (
        SELECT 1 AS is_stored, s.partition AS partition, s.period_type AS period_type, s.period_start AS period_start,
            s.org_id AS org_id, s.metric_key AS metric_key, s.subject_type AS subject_type, s.subject_id AS subject_id,
            s.record_count AS n, toDecimal256(s.sum, 9) AS total, s.min AS smallest, s.max AS largest,
            s.last AS latest, s.last_offset AS latest_offset, s.last_timestamp AS latest_at, s.folded_through AS through
        FROM usage_windows AS s FINAL
        WHERE s.period_type = 'lifetime' OR s.period_start >= provable_from
        UNION ALL
        SELECT 0 AS is_stored, h.partition AS partition,
            CAST(period.1 AS Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3, 'lifetime' = 4)) AS period_type,
            period.2 AS period_start, h.org_id, h.metric_key, h.subject_type, h.subject_id,
            h.n, h.total, h.smallest, h.largest, h.latest, h.latest_offset, h.latest_at, h.through
        FROM settled AS h
        ARRAY JOIN
            [
                (1, toDateTime64(h.hour, 6, 'UTC')),
                (2, toDateTime64(toStartOfDay(h.hour), 6, 'UTC')),
                (3, toDateTime64(toStartOfMonth(h.hour), 6, 'UTC'))
            ] AS period
        WHERE period_start >= provable_from
        UNION ALL
        SELECT 0 AS is_stored, f.partition, f.period_type, f.period_start, f.org_id, f.metric_key, f.subject_type,
            f.subject_id, 1, toDecimal256(f.quantity, 9), f.quantity, f.quantity, f.quantity, f.offset, f.timestamp,
            f.offset
        FROM in_flight AS f
        WHERE f.period_start >= provable_from
        UNION ALL
        SELECT 0 AS is_stored, m.partition, CAST(4 AS Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3, 'lifetime' = 4)),
            toDateTime64(0, 6, 'UTC'), m.org_id, m.metric_key, m.subject_type, m.subject_id, m.record_count,
            toDecimal256(m.sum, 9), m.min, m.max, m.last, m.last_offset, m.last_timestamp, m.folded_through
        FROM usage_windows AS m FINAL
        WHERE m.period_type = 'monthly'
    ),
    bitShiftLeft(toInt128(toUnixTimestamp64Micro(latest_at)), 63) + latest_offset AS order_of_latest,
    toDecimal256('99999999999999999999999999999.999999999', 9) AS largest_sum,
    sumIf(total, is_stored = 1) AS wide_stored_sum,
    sumIf(total, is_stored = 0) AS wide_recounted_sum
SELECT
    org_id,
    metric_key,
    subject_type,
    subject_id,
    toString(period_type) AS period_type,
    period_start,
    partition,
    multiIf(countIf(is_stored = 1) = 0, 'window missing', countIf(is_stored = 0) = 0, 'records missing', 'different')
        AS finding,
    sumIf(n, is_stored = 1) AS stored_count,
    sumIf(n, is_stored = 0) AS recounted_count,
    -- throwIf answers 0 where it does not throw.
    CAST(
        wide_stored_sum + throwIf(abs(wide_stored_sum) > largest_sum, 'stored_sum does not fit into Decimal(38, 9)')
        AS Decimal(38, 9)
    ) AS stored_sum,
    CAST(
        wide_recounted_sum + throwIf(abs(wide_recounted_sum) > largest_sum, 'recounted_sum does not fit into Decimal(38, 9)')
        AS Decimal(38, 9)
    ) AS recounted_sum,
    minIf(toNullable(smallest), is_stored = 1) AS stored_min,
    minIf(toNullable(smallest), is_stored = 0) AS recounted_min,
    maxIf(toNullable(largest), is_stored = 1) AS stored_max,
    maxIf(toNullable(largest), is_stored = 0) AS recounted_max,
    argMaxIf(toNullable(latest), order_of_latest, is_stored = 1) AS stored_last,
    argMaxIf(toNullable(latest), order_of_latest, is_stored = 0) AS recounted_last,
    maxIf(toNullable(latest_at), is_stored = 1) AS stored_last_timestamp,
    maxIf(toNullable(latest_at), is_stored = 0) AS recounted_last_timestamp,
    argMaxIf(toNullable(latest_offset), order_of_latest, is_stored = 1) AS stored_last_offset,
    argMaxIf(toNullable(latest_offset), order_of_latest, is_stored = 0) AS recounted_last_offset,
    maxIf(toNullable(through), is_stored = 1) AS stored_folded_through,
    maxIf(toNullable(through), is_stored = 0) AS recounted_folded_through
FROM parts
GROUP BY partition, period_type, period_start, org_id, metric_key, subject_type, subject_id
HAVING finding != 'different'
    OR stored_count != recounted_count OR wide_stored_sum != wide_recounted_sum
    OR stored_min != recounted_min OR stored_max != recounted_max
    OR stored_last != recounted_last OR stored_last_timestamp != recounted_last_timestamp
    OR stored_last_offset != recounted_last_offset OR stored_folded_through != recounted_folded_through
SETTINGS do_not_merge_across_partitions_select_final = 1,
    max_bytes_before_external_group_by = 1073741824, max_bytes_ratio_before_external_group_by = 0;
