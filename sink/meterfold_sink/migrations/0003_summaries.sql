-- Windows as people read them: the total by the metric's own aggregation type, weeks and years, ends and finality.
--
-- Sums are Decimal(76, 9): twelve months of the largest sums do not fit 38 digits, and ClickHouse would wrap silently.
-- Each period is a branch of its own, so that a condition on period_type leaves only that one to read, and the others
-- reach its index. The view's results do not depend on the reader's settings (join_use_nulls).
CREATE OR REPLACE VIEW usage_summaries AS
WITH
    definitions AS
    (
        SELECT org_id, key, toString(aggregation_type) AS aggregation_type
        FROM metric_definitions FINAL
        WHERE deleted = 0
    ),
    (SELECT toInt64OrZero(any(value)) FROM fold_settings FINAL WHERE name = 'grace_seconds') AS grace_seconds,
    -- An organization's own definition hides the global one; a metric without any is summed.
    multiIf(
        ifNull(own.aggregation_type, '') != '', ifNull(own.aggregation_type, ''),
        ifNull(global.aggregation_type, '') != '', ifNull(global.aggregation_type, ''),
        'sum'
    ) AS total_by,
    -- Integers of scale 9 in 256 bits, rounded half away from zero: dividing the decimals themselves can overflow.
    toInt256(w.sum_quantity * 1000000000) AS unscaled_sum,
    sign(unscaled_sum) * intDiv(2 * abs(unscaled_sum) + w.record_count, 2 * toInt256(w.record_count)) AS unscaled_avg,
    CAST(toDecimal256(unscaled_avg, 9) / 1000000000 AS Decimal(38, 9)) AS average,
    toDateTime64(0, 6, 'UTC') AS no_stamp,
    ifNull(progress.last_stamp, no_stamp) AS stamp
SELECT
    w.org_id AS org_id,
    w.metric_key AS metric_key,
    w.subject_type AS subject_type,
    w.subject_id AS subject_id,
    w.period_type AS period_type,
    w.period_start AS period_start,
    w.period_end AS period_end,
    multiIf(
        total_by = 'count', toDecimal256(w.record_count, 9),
        total_by = 'avg', toDecimal256(average, 9),
        total_by = 'max', toDecimal256(w.max_quantity, 9),
        total_by = 'min', toDecimal256(w.min_quantity, 9),
        total_by = 'last', toDecimal256(w.last_quantity, 9),
        w.sum_quantity
    ) AS total_quantity,
    w.record_count AS record_count,
    w.sum_quantity AS sum,
    w.min_quantity AS min_quantity,
    w.max_quantity AS max_quantity,
    average AS avg_quantity,
    w.last_quantity AS last_quantity,
    -- By the stamps of its own partition and by the wall clock, whichever is behind.
    CAST(
        ifNull(w.period_end + toIntervalSecond(grace_seconds) <= least(stamp, now64(6, 'UTC')), 0) AS Bool
    ) AS is_final,
    -- The numbers hold everything that had arrived until then.
    nullIf(stamp, no_stamp) AS updated_at
FROM
(
    SELECT org_id, metric_key, subject_type, subject_id, 'hourly' AS period_type, period_start,
        toNullable(period_start + INTERVAL 1 HOUR) AS period_end, partition, record_count,
        toDecimal256(s.sum, 9) AS sum_quantity, s.min AS min_quantity, s.max AS max_quantity, s.last AS last_quantity
    FROM usage_windows AS s FINAL
    WHERE s.period_type = 'hourly'
    UNION ALL
    SELECT org_id, metric_key, subject_type, subject_id, 'daily' AS period_type, period_start,
        toNullable(period_start + INTERVAL 1 DAY) AS period_end, partition, record_count,
        toDecimal256(s.sum, 9) AS sum_quantity, s.min AS min_quantity, s.max AS max_quantity, s.last AS last_quantity
    FROM usage_windows AS s FINAL
    WHERE s.period_type = 'daily'
    UNION ALL
    SELECT org_id, metric_key, subject_type, subject_id, 'weekly' AS period_type,
        toDateTime64(toMonday(s.period_start), 6, 'UTC') AS week_start,
        toNullable(week_start + INTERVAL 7 DAY) AS period_end, partition, sum(s.record_count) AS record_count,
        sum(toDecimal256(s.sum, 9)) AS sum_quantity, min(s.min) AS min_quantity, max(s.max) AS max_quantity,
        argMax(s.last, bitShiftLeft(toInt128(toUnixTimestamp64Micro(s.last_timestamp)), 63) + s.last_offset)
            AS last_quantity
    FROM usage_windows AS s FINAL
    WHERE s.period_type = 'daily'
    GROUP BY org_id, metric_key, subject_type, subject_id, week_start, partition
    UNION ALL
    SELECT org_id, metric_key, subject_type, subject_id, 'monthly' AS period_type, period_start,
        toNullable(period_start + INTERVAL 1 MONTH) AS period_end, partition, record_count,
        toDecimal256(s.sum, 9) AS sum_quantity, s.min AS min_quantity, s.max AS max_quantity, s.last AS last_quantity
    FROM usage_windows AS s FINAL
    WHERE s.period_type = 'monthly'
    UNION ALL
    SELECT org_id, metric_key, subject_type, subject_id, 'yearly' AS period_type,
        toDateTime64(toStartOfYear(s.period_start), 6, 'UTC') AS year_start,
        toNullable(year_start + INTERVAL 1 YEAR) AS period_end, partition, sum(s.record_count) AS record_count,
        sum(toDecimal256(s.sum, 9)) AS sum_quantity, min(s.min) AS min_quantity, max(s.max) AS max_quantity,
        argMax(s.last, bitShiftLeft(toInt128(toUnixTimestamp64Micro(s.last_timestamp)), 63) + s.last_offset)
            AS last_quantity
    FROM usage_windows AS s FINAL
    WHERE s.period_type = 'monthly'
    GROUP BY org_id, metric_key, subject_type, subject_id, year_start, partition
    UNION ALL
    SELECT org_id, metric_key, subject_type, subject_id, 'lifetime' AS period_type, period_start,
        CAST(NULL AS Nullable(DateTime64(6, 'UTC'))) AS period_end, partition, record_count,
        toDecimal256(s.sum, 9) AS sum_quantity, s.min AS min_quantity, s.max AS max_quantity, s.last AS last_quantity
    FROM usage_windows AS s FINAL
    WHERE s.period_type = 'lifetime'
) AS w
LEFT ANY JOIN definitions AS own ON own.org_id = w.org_id AND own.key = w.metric_key
LEFT ANY JOIN (SELECT key, aggregation_type FROM definitions WHERE org_id = '') AS global ON global.key = w.metric_key
LEFT ANY JOIN (SELECT partition, last_stamp FROM fold_progress FINAL) AS progress ON progress.partition = w.partition
SETTINGS do_not_merge_across_partitions_select_final = 1;
