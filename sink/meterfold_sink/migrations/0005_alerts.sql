-- Alerts: one per threshold, subject, window, level and crossing, derived from what the checker emitted and what
-- people did. Cleared wins whatever came first: the two topics are read in no particular order, and an alert of which
-- only the `cleared` is known is resolved.
CREATE OR REPLACE VIEW usage_alerts AS
WITH
    events AS
    (
        SELECT
            alert_id,
            any(e.threshold_id) AS threshold_id,
            any(e.org_id) AS org_id,
            any(e.metric_key) AS metric_key,
            any(e.subject_type) AS subject_type,
            any(e.subject_id) AS subject_id,
            any(e.period_type) AS period_type,
            any(e.period_start) AS period_start,
            anyIf(toNullable(assumeNotNull(e.period_end)), isNotNull(e.period_end)) AS period_end,
            any(e.level) AS level,
            any(e.crossing) AS crossing,
            -- What it said when it was triggered; of an alert whose trigger is not here yet, what it says at the end.
            argMin(e.threshold, e.event_type = 'threshold.cleared') AS threshold,
            argMin(e.actual_value, e.event_type = 'threshold.cleared') AS actual_value,
            argMin(e.percentage_used, e.event_type = 'threshold.cleared') AS percentage_used,
            argMin(e.action, e.event_type = 'threshold.cleared') AS action,
            min(e.occurred_at) AS triggered_at,
            minIf(toNullable(e.occurred_at), e.event_type = 'threshold.cleared') AS cleared_at
        FROM threshold_events AS e FINAL
        GROUP BY alert_id
    ),
    actions AS
    (
        SELECT
            alert_id,
            anyIf(toNullable(by), action = 'acknowledge') AS acknowledged_by,
            anyIf(toNullable(at), action = 'acknowledge') AS acknowledged_at,
            anyIf(toNullable(at), action = 'resolve') AS resolved_at
        FROM alert_actions FINAL
        GROUP BY alert_id
    ),
    if(a.period_end <= now64(6, 'UTC'), a.period_end, NULL) AS ended_at,
    arrayMin(arrayFilter(t -> isNotNull(t), [a.cleared_at, actions.resolved_at, ended_at])) AS first_end
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
        isNotNull(a.cleared_at) OR isNotNull(actions.resolved_at) OR isNotNull(ended_at), 'resolved',
        isNotNull(actions.acknowledged_at), 'acknowledged',
        'pending'
    ) AS status,
    actions.acknowledged_by AS acknowledged_by,
    actions.acknowledged_at AS acknowledged_at,
    if(status = 'resolved', first_end, NULL) AS resolved_at,
    a.triggered_at AS triggered_at
FROM events AS a
LEFT ANY JOIN actions ON actions.alert_id = a.alert_id;
