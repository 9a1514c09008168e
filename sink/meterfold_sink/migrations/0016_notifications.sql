-- What `meterfold notify` sends. These rows are the truth: an event is planned here before its offset is passed, and a
-- try is written before it begins and when it has ended, so a notifier that is killed at any step continues from here.

-- One row per try of a delivery (an event to one target); attempt 0 is the plan, with the snapshot of the event. Of the
-- two rows of a try the one that says how it ended stays. A redelivery is a further round.
CREATE TABLE IF NOT EXISTS notification_tries
(
    occurred_at  DateTime64(6, 'UTC'),
    event_id     String,
    channel      LowCardinality(String),
    target       String,
    round        Int64,
    attempt      UInt16,
    stage        UInt8,
    state        LowCardinality(String),
    due_at       DateTime64(6, 'UTC'),
    give_up_at   DateTime64(6, 'UTC'),
    event_type   LowCardinality(String),
    topic        LowCardinality(String),
    partition    Int32,
    org_id       String,
    threshold_id String,
    alert_id     String,
    payload      String CODEC(ZSTD(3)),
    status       Int32,
    error        String,
    started_at   Nullable(DateTime64(6, 'UTC')),
    ended_at     Nullable(DateTime64(6, 'UTC')),
    INDEX by_event event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_give_up give_up_at TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(stage)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (occurred_at, event_id, channel, target, round, attempt)
TTL toDateTime(occurred_at) + toIntervalDay(100)
SETTINGS ttl_only_drop_parts = 1,
    fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- How far events are planned: written after everything below next_offset is in notification_tries.
CREATE TABLE IF NOT EXISTS notification_progress
(
    topic       String,
    partition   Int32,
    next_offset Int64
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (topic, partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- Webhook endpoints that fail or are disabled, and those that were.
CREATE TABLE IF NOT EXISTS notification_endpoints
(
    endpoint   String,
    state      LowCardinality(String),
    since      DateTime64(6, 'UTC'),
    reason     String,
    changed_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(changed_at)
ORDER BY endpoint
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- The state of each delivery: that of its last try.
CREATE OR REPLACE VIEW notification_deliveries AS
SELECT
    occurred_at, event_id, channel, target,
    any(t.event_type) AS event_type,
    any(t.org_id) AS org_id,
    any(t.threshold_id) AS threshold_id,
    any(t.alert_id) AS alert_id,
    argMax(t.state, (t.round, t.attempt, t.stage)) AS state,
    max(t.round) AS round,
    argMax(t.attempt, (t.round, t.attempt, t.stage)) AS attempts,
    argMax(t.due_at, (t.round, t.attempt, t.stage)) AS due_at,
    argMax(t.status, (t.round, t.attempt, t.stage)) AS status,
    argMax(t.error, (t.round, t.attempt, t.stage)) AS error,
    max(t.started_at) AS last_try_at,
    argMaxIf(t.payload, t.round, t.attempt = 0) AS payload
FROM notification_tries AS t
GROUP BY occurred_at, event_id, channel, target;
