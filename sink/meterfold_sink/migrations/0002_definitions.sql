-- What people define and what the checker says. Kafka holds the truth of definitions; `version` is the offset of the
-- message there, and a deletion stays as a row, so that a late older version cannot bring the definition back.

CREATE TABLE IF NOT EXISTS metric_definitions
(
    id               String,
    key              String,
    name             String,
    description      Nullable(String),
    unit             String,
    aggregation_type LowCardinality(String) COMMENT 'count, sum, avg, max, min or last',
    reset_period     LowCardinality(String) COMMENT 'never, hourly, daily, weekly, monthly or yearly',
    precision        UInt8 COMMENT 'digits shown',
    org_id           String COMMENT 'empty: every organization without a definition of its own',
    category         Nullable(String),
    display_order    Int32,
    metadata         Nullable(String),
    is_active        Bool,
    created_at       DateTime64(6, 'UTC'),
    updated_at       DateTime64(6, 'UTC'),
    version          Int64,
    deleted          UInt8
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (org_id, key)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS thresholds
(
    id             String,
    org_id         String,
    metric_key     String,
    subject_type   Nullable(String) COMMENT 'null: every subject, each judged by itself',
    subject_id     Nullable(String) COMMENT 'null: every subject of the type',
    name           String,
    threshold      Decimal(38, 9),
    warn_threshold Decimal(38, 9),
    period_type    LowCardinality(String),
    action         LowCardinality(String) COMMENT 'none, alert, warn, block or downgrade',
    notify_emails  Array(String),
    notify_webhook Nullable(String),
    is_active      Bool,
    metadata       Nullable(String),
    created_at     DateTime64(6, 'UTC'),
    updated_at     DateTime64(6, 'UTC'),
    version        Int64,
    deleted        UInt8
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- threshold.approaching, .exceeded and .cleared as they were emitted. The window is a function of the event id, so a
-- repeated event falls on the same key and into the same month.
CREATE TABLE IF NOT EXISTS threshold_events
(
    event_id        String,
    event_type      LowCardinality(String) COMMENT 'threshold.approaching, threshold.exceeded or threshold.cleared',
    occurred_at     DateTime64(6, 'UTC'),
    alert_id        String,
    threshold_id    String,
    org_id          String,
    metric_key      String,
    subject_type    String,
    subject_id      String,
    period_type     LowCardinality(String),
    period_start    DateTime64(6, 'UTC'),
    period_end      Nullable(DateTime64(6, 'UTC')),
    level           LowCardinality(String) COMMENT 'approaching or exceeded',
    crossing        Int64 COMMENT 'how many times the level was reached in this window',
    threshold       Decimal(38, 9),
    warn_threshold  Decimal(38, 9),
    actual_value    Decimal(38, 9),
    percentage_used Decimal(38, 9),
    action          LowCardinality(String)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(period_start)
ORDER BY (period_start, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- What people did with an alert: the first of each action stays.
CREATE TABLE IF NOT EXISTS alert_actions
(
    alert_id String,
    action   Enum8('acknowledge' = 1, 'resolve' = 2),
    by       String,
    at       DateTime64(6, 'UTC'),
    earlier  Int64 DEFAULT -toUnixTimestamp64Micro(at)
)
ENGINE = ReplacingMergeTree(earlier)
ORDER BY (alert_id, action)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- Closed periods. Closing one again with the same numbers is the same row; a late event in between makes another.
CREATE TABLE IF NOT EXISTS period_closings
(
    period_type  LowCardinality(String),
    period_start DateTime64(6, 'UTC'),
    metric_key   String COMMENT 'empty: every metric',
    checksum     String COMMENT 'of the recounted windows',
    window_count UInt64,
    record_count UInt64,
    next_offsets Map(Int32, Int64) COMMENT 'partition and the offset up to which it was folded',
    closed_at    DateTime64(6, 'UTC'),
    earlier      Int64 DEFAULT -toUnixTimestamp64Micro(closed_at)
)
ENGINE = ReplacingMergeTree(earlier)
PARTITION BY toYYYYMM(period_start)
ORDER BY (period_start, period_type, metric_key, checksum)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
