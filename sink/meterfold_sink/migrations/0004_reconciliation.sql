-- Windows against a recount of their records: no row means proven. Exact while the fold is at rest; `meterfold verify`
-- asks the same of a running one, from copies taken in the right order.
--
-- Each window is compared with the records up to its folded_through, and at least with all that the partition's
-- progress says are folded; a window that is not there has folded nothing (-1: offset 0 is an offset). A lifetime is
-- the sum of its months, since the records of old months expire. Windows that may have had records older than the
-- records' retention are not compared here: usage_unprovable_windows lists them.
CREATE OR REPLACE VIEW usage_reconciliation AS
WITH
    (SELECT toInt64OrZero(any(value)) FROM fold_settings FINAL WHERE name = 'record_retention_seconds') AS retention,
    (SELECT toInt64OrZero(any(value)) FROM fold_settings FINAL WHERE name = 'future_tolerance_seconds') AS tolerance,
    -- A record arrives at most the tolerance before its own timestamp. Without settings everything is compared.
    if(retention = 0, toDateTime64(0, 6, 'UTC'), now64(6, 'UTC') - toIntervalSecond(retention - tolerance))
        AS provable_from,
    expanded AS
    (
        SELECT
            r.partition AS partition, period.1 AS period_type, period.2 AS period_start,
            r.org_id AS org_id, r.metric_key AS metric_key, r.subject_type AS subject_type, r.subject_id AS subject_id,
            r.offset AS offset, r.quantity AS quantity, r.timestamp AS timestamp
        FROM usage_records AS r FINAL
        ARRAY JOIN
            [
                (CAST('hourly' AS Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3, 'lifetime' = 4)),
                    toDateTime64(toStartOfHour(r.timestamp), 6, 'UTC')),
                ('daily', toDateTime64(toStartOfDay(r.timestamp), 6, 'UTC')),
                ('monthly', toDateTime64(toStartOfMonth(r.timestamp), 6, 'UTC'))
            ] AS period
        WHERE period_start >= provable_from
    ),
    recounted AS
    (
        SELECT
            e.partition AS partition, e.period_type AS period_type, e.period_start AS period_start,
            e.org_id AS org_id, e.metric_key AS metric_key, e.subject_type AS subject_type, e.subject_id AS subject_id,
            toInt64(count()) AS n, sum(toDecimal256(e.quantity, 9)) AS total, min(e.quantity) AS smallest,
            max(e.quantity) AS largest, argMax(e.quantity, (e.timestamp, e.offset)) AS latest,
            max(e.timestamp) AS latest_at, argMax(e.offset, (e.timestamp, e.offset)) AS latest_offset,
            max(e.offset) AS through
        FROM expanded AS e
        LEFT ANY JOIN
        (
            SELECT partition, period_type, period_start, org_id, metric_key, subject_type, subject_id, folded_through,
                1 AS is_there
            FROM usage_windows FINAL
            WHERE period_type != 'lifetime' AND period_start >= provable_from
        ) AS w ON w.partition = e.partition AND w.period_type = e.period_type AND w.period_start = e.period_start
            AND w.org_id = e.org_id AND w.metric_key = e.metric_key AND w.subject_type = e.subject_type
            AND w.subject_id = e.subject_id
        LEFT ANY JOIN (SELECT partition, next_offset FROM fold_progress FINAL) AS p ON p.partition = e.partition
        WHERE e.offset <= greatest(
            if(ifNull(w.is_there, 0) = 1, ifNull(w.folded_through, -1), -1), ifNull(p.next_offset, 0) - 1)
        GROUP BY partition, period_type, period_start, org_id, metric_key, subject_type, subject_id
    ),
    months AS
    (
        SELECT
            m.partition AS partition,
            CAST('lifetime' AS Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3, 'lifetime' = 4)) AS period_type,
            toDateTime64(0, 6, 'UTC') AS period_start,
            m.org_id AS org_id, m.metric_key AS metric_key, m.subject_type AS subject_type, m.subject_id AS subject_id,
            sum(m.record_count) AS n, sum(toDecimal256(m.sum, 9)) AS total, min(m.min) AS smallest,
            max(m.max) AS largest, argMax(m.last, (m.last_timestamp, m.last_offset)) AS latest,
            max(m.last_timestamp) AS latest_at, argMax(m.last_offset, (m.last_timestamp, m.last_offset)) AS latest_offset,
            max(m.folded_through) AS through
        FROM usage_windows AS m FINAL
        WHERE m.period_type = 'monthly'
        GROUP BY partition, org_id, metric_key, subject_type, subject_id
    ),
    both AS
    (
        SELECT 1 AS is_stored, s.partition AS partition, s.period_type AS period_type, s.period_start AS period_start,
            s.org_id AS org_id, s.metric_key AS metric_key, s.subject_type AS subject_type, s.subject_id AS subject_id,
            s.record_count AS n, toDecimal256(s.sum, 9) AS total, s.min AS smallest, s.max AS largest,
            s.last AS latest, s.last_timestamp AS latest_at, s.last_offset AS latest_offset, s.folded_through AS through
        FROM usage_windows AS s FINAL
        WHERE s.period_type = 'lifetime' OR s.period_start >= provable_from
        UNION ALL
        SELECT 0 AS is_stored, * FROM recounted
        UNION ALL
        SELECT 0 AS is_stored, * FROM months
    )
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
    sumIf(total, is_stored = 1) AS stored_sum,
    sumIf(total, is_stored = 0) AS recounted_sum,
    anyIf(toNullable(smallest), is_stored = 1) AS stored_min,
    anyIf(toNullable(smallest), is_stored = 0) AS recounted_min,
    anyIf(toNullable(largest), is_stored = 1) AS stored_max,
    anyIf(toNullable(largest), is_stored = 0) AS recounted_max,
    anyIf(toNullable(latest), is_stored = 1) AS stored_last,
    anyIf(toNullable(latest), is_stored = 0) AS recounted_last,
    anyIf(toNullable(latest_at), is_stored = 1) AS stored_last_timestamp,
    anyIf(toNullable(latest_at), is_stored = 0) AS recounted_last_timestamp,
    anyIf(toNullable(latest_offset), is_stored = 1) AS stored_last_offset,
    anyIf(toNullable(latest_offset), is_stored = 0) AS recounted_last_offset,
    anyIf(toNullable(through), is_stored = 1) AS stored_folded_through,
    anyIf(toNullable(through), is_stored = 0) AS recounted_folded_through
FROM both
GROUP BY partition, period_type, period_start, org_id, metric_key, subject_type, subject_id
HAVING finding != 'different'
    OR stored_count != recounted_count OR stored_sum != recounted_sum
    OR stored_min != recounted_min OR stored_max != recounted_max
    OR stored_last != recounted_last OR stored_last_timestamp != recounted_last_timestamp
    OR stored_last_offset != recounted_last_offset OR stored_folded_through != recounted_folded_through
SETTINGS do_not_merge_across_partitions_select_final = 1;

-- Windows that may have had records which expired since: their months still add up to the lifetime above.
CREATE OR REPLACE VIEW usage_unprovable_windows AS
WITH
    (SELECT toInt64OrZero(any(value)) FROM fold_settings FINAL WHERE name = 'record_retention_seconds') AS retention,
    (SELECT toInt64OrZero(any(value)) FROM fold_settings FINAL WHERE name = 'future_tolerance_seconds') AS tolerance,
    if(retention = 0, toDateTime64(0, 6, 'UTC'), now64(6, 'UTC') - toIntervalSecond(retention - tolerance))
        AS provable_from
SELECT org_id, metric_key, subject_type, subject_id, toString(s.period_type) AS period_type, period_start, partition,
    record_count
FROM usage_windows AS s FINAL
WHERE s.period_type != 'lifetime' AND s.period_start < provable_from
SETTINGS do_not_merge_across_partitions_select_final = 1;
