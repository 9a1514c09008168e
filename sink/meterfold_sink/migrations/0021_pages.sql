-- Two views that pages list, with the same rows as before, which read less.

-- Alerts, as in 0012_alert_actions.sql.
CREATE OR REPLACE VIEW usage_alerts AS
WITH
    events AS
    (
        SELECT
            alert_id, threshold_id, org_id, metric_key, subject_type, subject_id, period_type, period_start, period_end,
            level, crossing,
            -- What it said when it was triggered; of an alert whose trigger is not here yet, what it says at the end.
            argMin(e.threshold, e.event_type = 'threshold.cleared') AS threshold,
            argMin(e.actual_value, e.event_type = 'threshold.cleared') AS actual_value,
            argMin(e.percentage_used, e.event_type = 'threshold.cleared') AS percentage_used,
            argMin(e.action, e.event_type = 'threshold.cleared') AS action,
            min(e.occurred_at) AS triggered_at,
            minIf(toNullable(e.occurred_at), e.event_type = 'threshold.cleared') AS cleared_at
        -- Without FINAL: an event that is stored twice changes none of these.
        FROM threshold_events AS e
        GROUP BY
            alert_id, threshold_id, org_id, metric_key, subject_type, subject_id, period_type, period_start, period_end,
            level, crossing
    ),
    actions AS
    (
        SELECT
            alert_id,
            anyIf(toNullable(by), action = 'acknowledge') AS acknowledged_by,
            anyIf(toNullable(at), action = 'acknowledge') AS acknowledged_at,
            anyIf(toNullable(earlier), action = 'acknowledge') AS acknowledged_order,
            anyIf(toNullable(by), action = 'resolve') AS resolved_by,
            anyIf(toNullable(at), action = 'resolve') AS resolved_at,
            anyIf(toNullable(earlier), action = 'resolve') AS resolved_order
        FROM alert_actions FINAL
        GROUP BY alert_id
    ),
    if(a.period_end <= now64(6, 'UTC'), a.period_end, NULL) AS ended_at,
    isNotNull(d.resolved_at) AND ifNull(d.resolved_at < a.period_end, 1) AS by_hand,
    isNotNull(d.acknowledged_at) AND ifNull(d.acknowledged_at < a.period_end, 1)
        AND (NOT by_hand OR d.acknowledged_order > d.resolved_order) AS is_acknowledged
SELECT
    a.alert_id AS id,
    a.threshold_id AS threshold_id,
    a.org_id AS org_id,
    a.metric_key AS metric_key,
    a.subject_type AS subject_type,
    a.subject_id AS subject_id,
    a.period_type AS period_type,
    a.period_start AS period_start,
    a.period_end AS period_end,
    a.level AS level,
    a.crossing AS crossing,
    a.threshold AS threshold,
    a.actual_value AS actual_value,
    a.percentage_used AS percentage_used,
    a.action AS action,
    multiIf(
        by_hand OR isNotNull(a.cleared_at) OR isNotNull(ended_at), 'resolved',
        is_acknowledged, 'acknowledged',
        'pending'
    ) AS status,
    if(is_acknowledged, d.acknowledged_by, NULL) AS acknowledged_by,
    if(is_acknowledged, d.acknowledged_at, NULL) AS acknowledged_at,
    if(by_hand, d.resolved_by, NULL) AS resolved_by,
    if(by_hand, d.resolved_at, arrayMin(arrayFilter(t -> isNotNull(t), [a.cleared_at, ended_at]))) AS resolved_at,
    a.triggered_at AS triggered_at
FROM events AS a
LEFT ANY JOIN actions AS d ON d.alert_id = a.alert_id;

-- Adjustments, as in 0013_closings.sql: only periods that have moved are looked at, and what they need is found by the
-- sort key or an index.
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
    -- The periods that have such a window: three columns of the sort key and one more, a few rows for each period.
    candidates AS
    (
        SELECT p.number AS number, p.type AS type, p.start AS start
        FROM
        (
            SELECT partition AS number, period_type AS type, period_start AS start, max(folded_through) AS newest
            FROM usage_windows
            WHERE period_type != 'lifetime'
            GROUP BY number, type, start
        ) AS p
        INNER JOIN (SELECT type, start, number, lowest FROM bounds) AS b
            ON b.type = p.type AND b.start = p.start AND b.number = p.number
        WHERE p.newest >= b.lowest
    ),
    -- As an array, which is made once however often the windows are read below.
    (SELECT groupArray((number, type, start)) FROM candidates) AS places,
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
                AND (w.partition, w.period_type, w.period_start) IN
                    (SELECT place.1, place.2, place.3 FROM (SELECT arrayJoin(places) AS place))
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
            -- The columns of the sort key, in its order.
            WHERE (c.period_type, c.period_start, c.metric_key, c.org_id, c.subject_type, c.subject_id, c.partition)
                IN (SELECT CAST(type AS Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3)), start, metric, org, kind, subject,
                    number FROM moved)
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
        WHERE r.subject_id IN (SELECT subject FROM moved) AND r.offset >= m.covering[1].2 AND r.timestamp >= m.start AND r.timestamp < multiIf(
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
