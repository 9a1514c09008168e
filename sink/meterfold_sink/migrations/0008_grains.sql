-- A view per grain: usage_hourly, usage_daily, usage_weekly, usage_monthly, usage_yearly, usage_lifetime. usage_summaries
-- holds the rows of all six, so a sum over it without a condition on period_type counts every event six times.
--
-- Quantities are Decimal(38, 9), which is what polars, pandas and DuckDB read. Sums of sums are computed in 256 bits, and
-- one that does not fit into 38 digits is an error of the query. A plain CAST would not do: it lets 39 digits pass up to
-- 2^127, and readers take those for damage.
--
-- A metric without a definition has no total (NULL): there is no aggregation type that would be right.
--
-- Each period is a branch of its own, so that a condition on period_type leaves one branch to read, and conditions on
-- the other columns reach the sort key of usage_windows: weeks and years by CAST, which the index analysis sees through,
-- as it does not through toDateTime64. The results do not depend on the reader's settings
-- (join_use_nulls).
CREATE OR REPLACE VIEW usage_summaries AS
WITH
    definitions AS
    (
        SELECT org_id, key, toString(aggregation_type) AS aggregation_type
        FROM metric_definitions FINAL
        WHERE deleted = 0
    ),
    (SELECT toInt64OrZero(any(value)) FROM fold_settings FINAL WHERE name = 'grace_seconds') AS grace_seconds,
    -- An organization's own definition hides the global one.
    if(ifNull(own.aggregation_type, '') != '', ifNull(own.aggregation_type, ''), ifNull(global.aggregation_type, ''))
        AS total_by,
    toDecimal256('99999999999999999999999999999.999999999', 9) AS largest,
    -- Integers of scale 9 in 256 bits, rounded half away from zero: dividing the decimals themselves can overflow.
    toInt256(w.sum_quantity * 1000000000) AS unscaled_sum,
    sign(unscaled_sum) * intDiv(2 * abs(unscaled_sum) + w.record_count, 2 * toInt256(w.record_count)) AS unscaled_avg,
    toDecimal256(unscaled_avg, 9) / 1000000000 AS average,
    multiIf(
        total_by = 'count', toNullable(toDecimal256(w.record_count, 9)),
        total_by = 'sum', toNullable(w.sum_quantity),
        total_by = 'avg', toNullable(average),
        total_by = 'max', toNullable(toDecimal256(w.max_quantity, 9)),
        total_by = 'min', toNullable(toDecimal256(w.min_quantity, 9)),
        total_by = 'last', toNullable(toDecimal256(w.last_quantity, 9)),
        NULL
    ) AS total,
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
    -- throwIf answers 0 where it does not throw.
    CAST(
        total + throwIf(ifNull(abs(total) > largest, 0), 'total_quantity does not fit into Decimal(38, 9): read a shorter period')
        AS Nullable(Decimal(38, 9))
    ) AS total_quantity,
    w.record_count AS record_count,
    CAST(
        w.sum_quantity + throwIf(abs(w.sum_quantity) > largest, 'sum does not fit into Decimal(38, 9): read a shorter period')
        AS Decimal(38, 9)
    ) AS sum,
    w.min_quantity AS min_quantity,
    w.max_quantity AS max_quantity,
    CAST(average AS Decimal(38, 9)) AS avg_quantity,
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
        CAST(toMonday(s.period_start), 'DateTime64(6, \'UTC\')') AS week_start,
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
        CAST(toStartOfYear(s.period_start), 'DateTime64(6, \'UTC\')') AS year_start,
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

CREATE OR REPLACE VIEW usage_hourly AS
SELECT * EXCEPT period_type FROM usage_summaries WHERE period_type = 'hourly';

CREATE OR REPLACE VIEW usage_daily AS
SELECT * EXCEPT period_type FROM usage_summaries WHERE period_type = 'daily';

CREATE OR REPLACE VIEW usage_weekly AS
SELECT * EXCEPT period_type FROM usage_summaries WHERE period_type = 'weekly';

CREATE OR REPLACE VIEW usage_monthly AS
SELECT * EXCEPT period_type FROM usage_summaries WHERE period_type = 'monthly';

CREATE OR REPLACE VIEW usage_yearly AS
SELECT * EXCEPT period_type FROM usage_summaries WHERE period_type = 'yearly';

CREATE OR REPLACE VIEW usage_lifetime AS
SELECT * EXCEPT period_type FROM usage_summaries WHERE period_type = 'lifetime';

