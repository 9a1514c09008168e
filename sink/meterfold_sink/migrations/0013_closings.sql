-- The numbers as closed: one row for each state of a window that a closing has found. folded_through names the state and
-- is in the sort key, so a row never changes, and a repeated or concurrent insert writes the same row. A closing holds the
-- newest state of each window below its next_offsets; a later closing of the same period adds only what has moved.
CREATE TABLE IF NOT EXISTS closed_windows
(
    period_type    Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3),
    period_start   DateTime64(6, 'UTC'),
    metric_key     LowCardinality(String),
    org_id         LowCardinality(String),
    subject_type   LowCardinality(String),
    subject_id     String,
    partition      Int32,
    record_count   Int64,
    sum            Decimal(38, 9),
    min            Decimal(38, 9),
    max            Decimal(38, 9),
    last           Decimal(38, 9),
    last_timestamp DateTime64(6, 'UTC'),
    last_offset    Int64,
    folded_through Int64
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(period_start)
ORDER BY (period_type, period_start, metric_key, org_id, subject_type, subject_id, partition, folded_through)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- The numbers of the newest closing of each period, one row per window. A closing with an empty metric_key is one of every
-- metric. `total_quantity` is by the metric's aggregation type, and NULL without a definition.
CREATE OR REPLACE VIEW usage_closed AS
WITH
    -- Period, metric and partition of each closing as one text, so that a look-up leaves the rows in the order of the sort
    -- key, and their states are grouped as they are read. The first element keeps the arrays from being empty.
    names AS
    (
        SELECT
            concat(toString(period_type), ' ', toString(toUnixTimestamp64Micro(period_start)), ' ', metric_key) AS name,
            next_offsets, closed_at
        FROM period_closings FINAL
    ),
    (
        SELECT (arrayPushFront(groupArray(place), ''), arrayPushFront(groupArray(bound), 0))
        FROM
        (
            SELECT concat(name, ' ', toString(entry.1)) AS place, max(entry.2) AS bound
            FROM names
            ARRAY JOIN arrayZip(mapKeys(next_offsets), mapValues(next_offsets)) AS entry
            GROUP BY place
        )
    ) AS bounds,
    (
        SELECT (arrayPushFront(groupArray(name), ''), arrayPushFront(groupArray(latest), toDateTime64(0, 6, 'UTC')))
        FROM (SELECT name, max(closed_at) AS latest FROM names GROUP BY name)
    ) AS latest_closings,
    definitions AS
    (
        SELECT org_id, key, toString(aggregation_type) AS aggregation_type
        FROM metric_definitions FINAL
        WHERE deleted = 0
    ),
    -- An organization's own definition hides the global one.
    if(ifNull(own.aggregation_type, '') != '', ifNull(own.aggregation_type, ''), ifNull(global.aggregation_type, ''))
        AS total_by,
    toDecimal256('99999999999999999999999999999.999999999', 9) AS largest,
    -- Integers of scale 9 in 256 bits, rounded half away from zero: dividing the decimals themselves can overflow.
    toInt256(toDecimal256(w.sum_quantity, 9) * 1000000000) AS unscaled_sum,
    sign(unscaled_sum) * intDiv(2 * abs(unscaled_sum) + w.records, 2 * toInt256(greatest(w.records, 1))) AS unscaled_avg,
    toDecimal256(unscaled_avg, 9) / 1000000000 AS average,
    multiIf(
        total_by = 'count', toNullable(toDecimal256(w.records, 9)),
        total_by = 'sum', toNullable(toDecimal256(w.sum_quantity, 9)),
        total_by = 'avg', toNullable(average),
        total_by = 'max', toNullable(toDecimal256(w.max_quantity, 9)),
        total_by = 'min', toNullable(toDecimal256(w.min_quantity, 9)),
        total_by = 'last', toNullable(toDecimal256(w.last_quantity, 9)),
        NULL
    ) AS total
SELECT
    w.org_id AS org_id,
    w.metric_key AS metric_key,
    w.subject_type AS subject_type,
    w.subject_id AS subject_id,
    w.period_type AS period_type,
    w.period_start AS period_start,
    multiIf(
        w.period_type = 'hourly', w.period_start + INTERVAL 1 HOUR,
        w.period_type = 'daily', w.period_start + INTERVAL 1 DAY,
        w.period_start + INTERVAL 1 MONTH
    ) AS period_end,
    -- throwIf answers 0 where it does not throw.
    CAST(
        total + throwIf(ifNull(abs(total) > largest, 0), 'total_quantity does not fit into Decimal(38, 9)')
        AS Nullable(Decimal(38, 9))
    ) AS total_quantity,
    w.records AS record_count,
    w.sum_quantity AS sum,
    w.min_quantity AS min_quantity,
    w.max_quantity AS max_quantity,
    CAST(average AS Decimal(38, 9)) AS avg_quantity,
    w.last_quantity AS last_quantity,
    w.latest_at AS last_timestamp,
    w.through AS folded_through,
    w.closed_at AS closed_at
FROM
(
    WITH concat(toString(c.period_type), ' ', toString(toUnixTimestamp64Micro(c.period_start))) AS period
    SELECT
        toString(c.period_type) AS period_type, c.period_start AS period_start, toString(c.metric_key) AS metric_key,
        toString(c.org_id) AS org_id, toString(c.subject_type) AS subject_type, c.subject_id AS subject_id,
        argMax(c.record_count, c.folded_through) AS records, argMax(c.sum, c.folded_through) AS sum_quantity,
        argMax(c.min, c.folded_through) AS min_quantity, argMax(c.max, c.folded_through) AS max_quantity,
        argMax(c.last, c.folded_through) AS last_quantity, argMax(c.last_timestamp, c.folded_through) AS latest_at,
        max(c.folded_through) AS through,
        greatest(
            transform(concat(period, ' '), latest_closings.1, latest_closings.2, toDateTime64(0, 6, 'UTC')),
            transform(concat(period, ' ', metric_key), latest_closings.1, latest_closings.2, toDateTime64(0, 6, 'UTC'))
        ) AS closed_at
    FROM closed_windows AS c FINAL
    WHERE c.folded_through < greatest(
        transform(concat(period, '  ', toString(c.partition)), bounds.1, bounds.2, toInt64(0)),
        transform(concat(period, ' ', c.metric_key, ' ', toString(c.partition)), bounds.1, bounds.2, toInt64(0))
    )
    GROUP BY c.period_type, c.period_start, c.metric_key, c.org_id, c.subject_type, c.subject_id, c.partition
) AS w
LEFT ANY JOIN definitions AS own ON own.org_id = w.org_id AND own.key = w.metric_key
LEFT ANY JOIN (SELECT key, aggregation_type FROM definitions WHERE org_id = '') AS global ON global.key = w.metric_key;

-- What has moved since it was closed: one row for each window and each closing after which it moved. `old_` is as closed at
-- closed_at, `new_` as in the next closing that holds another state (revised_at), or as it is now (revised_at is NULL). A
-- window that appeared after the closing has no old total.
CREATE OR REPLACE VIEW usage_adjustments AS
WITH
    bounds AS
    (
        SELECT
            CAST(period_type AS Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3, 'lifetime' = 4)) AS type,
            period_start AS start, entry.1 AS number, min(entry.2) AS lowest,
            groupArray((metric_key, entry.2, closed_at)) AS closings
        FROM period_closings FINAL
        ARRAY JOIN arrayZip(mapKeys(next_offsets), mapValues(next_offsets)) AS entry
        GROUP BY type, start, number
    ),
    -- Windows with a state beyond the first closing that covers them. Without FINAL: an older version of a row is a state
    -- that the window has had, too.
    moved AS
    (
        SELECT
            toString(n.period_type) AS type, n.period_start AS start, toString(n.metric_key) AS metric,
            toString(n.org_id) AS org, toString(n.subject_type) AS kind, n.subject_id AS subject, n.partition AS number,
            arraySort(c -> (c.2, c.3), arrayFilter(c -> c.1 = '' OR c.1 = n.metric_key, bounds.closings)) AS covering,
            groupUniqArray((n.folded_through, n.record_count, n.sum, n.min, n.max, n.last)) AS states
        FROM
        (
            -- Few rows are newer than any closing: those alone meet the arrays.
            SELECT w.period_type AS period_type, w.period_start AS period_start, w.metric_key AS metric_key,
                w.org_id AS org_id, w.subject_type AS subject_type, w.subject_id AS subject_id, w.partition AS partition,
                w.folded_through AS folded_through, w.record_count AS record_count, w.sum AS sum, w.min AS min,
                w.max AS max, w.last AS last
            FROM usage_windows AS w
            INNER JOIN (SELECT type, start, number, lowest FROM bounds) AS b
                ON b.type = w.period_type AND b.start = w.period_start AND b.number = w.partition
            WHERE w.period_type != 'lifetime' AND w.folded_through >= b.lowest
        ) AS n
        INNER JOIN bounds
            ON bounds.type = n.period_type AND bounds.start = n.period_start AND bounds.number = n.partition
        WHERE notEmpty(covering) AND n.folded_through >= covering[1].2
        GROUP BY type, start, metric, org, kind, subject, number, covering
    ),
    -- Every state of them that is known, from the oldest; the first stands for a window that does not exist.
    known AS
    (
        SELECT
            type, start, metric, org, kind, subject, number, arrayFirst(c -> notEmpty(c), groupArray(covering)) AS covering,
            arrayPushFront(
                arraySort(groupUniqArrayArray(states)),
                CAST((-1, 0, 0, 0, 0, 0), 'Tuple(Int64, Int64, Decimal(38, 9), Decimal(38, 9), Decimal(38, 9), Decimal(38, 9))')
            ) AS states
        FROM
        (
            SELECT type, start, metric, org, kind, subject, number, covering, states FROM moved
            UNION ALL
            SELECT toString(c.period_type), c.period_start, toString(c.metric_key), toString(c.org_id),
                toString(c.subject_type), c.subject_id, c.partition,
                CAST([], 'Array(Tuple(String, Int64, DateTime64(6, \'UTC\')))'),
                [(c.folded_through, c.record_count, c.sum, c.min, c.max, c.last)]
            FROM closed_windows AS c
            WHERE (toString(c.period_type), c.period_start, toString(c.metric_key), toString(c.org_id),
                toString(c.subject_type), c.subject_id, c.partition)
                IN (SELECT type, start, metric, org, kind, subject, number FROM moved)
        )
        GROUP BY type, start, metric, org, kind, subject, number
    ),
    -- The state at each closing and now, and then those that follow each other and differ.
    steps AS
    (
        SELECT
            type, start, metric, org, kind, subject, number,
            arrayPushBack(
                arrayMap(c -> (toNullable(c.3), arrayLast(s -> s.1 < c.2, states)), covering),
                (CAST(NULL, 'Nullable(DateTime64(6, \'UTC\'))'), arrayLast(s -> 1, states))
            ) AS points,
            arrayJoin(
                arrayFilter(p -> p.1.2.1 != p.2.2.1, arrayZip(arrayPopBack(points), arrayPopFront(points)))
            ) AS step
        FROM known
    ),
    late AS
    (
        SELECT m.type AS type, m.start AS start, m.metric AS metric, m.org AS org, m.kind AS kind, m.subject AS subject,
            m.number AS number, groupUniqArray(r.offset) AS offsets
        FROM usage_records AS r
        INNER JOIN moved AS m ON m.number = r.partition AND m.org = r.org_id AND m.metric = r.metric_key
            AND m.kind = r.subject_type AND m.subject = r.subject_id
        WHERE r.offset >= m.covering[1].2 AND r.timestamp >= m.start AND r.timestamp < multiIf(
            m.type = 'hourly', m.start + INTERVAL 1 HOUR, m.type = 'daily', m.start + INTERVAL 1 DAY,
            m.start + INTERVAL 1 MONTH
        )
        GROUP BY type, start, metric, org, kind, subject, number
    ),
    definitions AS
    (
        SELECT org_id, key, toString(aggregation_type) AS aggregation_type
        FROM metric_definitions FINAL
        WHERE deleted = 0
    ),
    -- An organization's own definition hides the global one.
    if(ifNull(own.aggregation_type, '') != '', ifNull(own.aggregation_type, ''), ifNull(global.aggregation_type, ''))
        AS total_by,
    toDecimal256('99999999999999999999999999999.999999999', 9) AS largest,
    s.step.1.2 AS old,
    s.step.2.2 AS new,
    -- Integers of scale 9 in 256 bits, rounded half away from zero: dividing the decimals themselves can overflow.
    toInt256(toDecimal256(old.3, 9) * 1000000000) AS old_unscaled,
    toInt256(toDecimal256(new.3, 9) * 1000000000) AS new_unscaled,
    sign(old_unscaled) * intDiv(2 * abs(old_unscaled) + old.2, 2 * toInt256(greatest(old.2, 1))) AS old_average,
    sign(new_unscaled) * intDiv(2 * abs(new_unscaled) + new.2, 2 * toInt256(greatest(new.2, 1))) AS new_average,
    if(old.2 = 0, NULL, multiIf(
        total_by = 'count', toNullable(toDecimal256(old.2, 9)),
        total_by = 'sum', toNullable(toDecimal256(old.3, 9)),
        total_by = 'avg', toNullable(toDecimal256(old_average, 9) / 1000000000),
        total_by = 'min', toNullable(toDecimal256(old.4, 9)),
        total_by = 'max', toNullable(toDecimal256(old.5, 9)),
        total_by = 'last', toNullable(toDecimal256(old.6, 9)),
        NULL
    )) AS old_total,
    multiIf(
        total_by = 'count', toNullable(toDecimal256(new.2, 9)),
        total_by = 'sum', toNullable(toDecimal256(new.3, 9)),
        total_by = 'avg', toNullable(toDecimal256(new_average, 9) / 1000000000),
        total_by = 'min', toNullable(toDecimal256(new.4, 9)),
        total_by = 'max', toNullable(toDecimal256(new.5, 9)),
        total_by = 'last', toNullable(toDecimal256(new.6, 9)),
        NULL
    ) AS new_total,
    new_total - ifNull(old_total, toDecimal256(0, 9)) AS moved_by
SELECT
    s.org AS org_id,
    s.metric AS metric_key,
    s.kind AS subject_type,
    s.subject AS subject_id,
    s.type AS period_type,
    s.start AS period_start,
    multiIf(
        s.type = 'hourly', s.start + INTERVAL 1 HOUR,
        s.type = 'daily', s.start + INTERVAL 1 DAY,
        s.start + INTERVAL 1 MONTH
    ) AS period_end,
    assumeNotNull(s.step.1.1) AS closed_at,
    s.step.2.1 AS revised_at,
    CAST(old_total AS Nullable(Decimal(38, 9))) AS old_quantity,
    CAST(new_total AS Nullable(Decimal(38, 9))) AS new_quantity,
    -- throwIf answers 0 where it does not throw.
    CAST(
        moved_by + throwIf(ifNull(abs(moved_by) > largest, 0), 'difference does not fit into Decimal(38, 9)')
        AS Nullable(Decimal(38, 9))
    ) AS difference,
    old.2 AS old_count,
    new.2 AS new_count,
    old.3 AS old_sum,
    new.3 AS new_sum,
    s.number AS partition,
    old.1 AS old_folded_through,
    new.1 AS new_folded_through,
    arraySlice(arraySort(arrayFilter(o -> o > old.1 AND o <= new.1, late.offsets)), 1, 1000) AS offsets
FROM steps AS s
LEFT ANY JOIN late ON late.type = s.type AND late.start = s.start AND late.metric = s.metric AND late.org = s.org
    AND late.kind = s.kind AND late.subject = s.subject AND late.number = s.number
LEFT ANY JOIN definitions AS own ON own.org_id = s.org AND own.key = s.metric
LEFT ANY JOIN (SELECT key, aggregation_type FROM definitions WHERE org_id = '') AS global ON global.key = s.metric;

-- Closed days and months of metrics with dimensions, once more by the values of those: of each state in closed_windows what
-- the records with the same values add up to. `dimensions` is a JSON object like the metadata of a record, with the fields
-- that are dimensions and have a value. `fields` are the metric's dimensions at that time.
CREATE TABLE IF NOT EXISTS closed_dimensions
(
    period_type    Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3),
    period_start   DateTime64(6, 'UTC'),
    metric_key     LowCardinality(String),
    org_id         LowCardinality(String),
    subject_type   LowCardinality(String),
    subject_id     String,
    partition      Int32,
    folded_through Int64,
    fields         Array(String),
    dimensions     String,
    record_count   Int64,
    sum            Decimal(38, 9),
    min            Decimal(38, 9),
    max            Decimal(38, 9),
    last           Decimal(38, 9),
    last_timestamp DateTime64(6, 'UTC'),
    last_offset    Int64
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(period_start)
ORDER BY (period_type, period_start, metric_key, org_id, subject_type, subject_id, partition, folded_through,
    fields, dimensions)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;
