-- What the fold writes. Every table replaces rows by its sort key, so a repeated insert changes nothing, and every
-- partition key is a function of the sort key: otherwise two versions of one row could stand in two partitions for
-- ever. Inserts and merges reach the disk before they are acknowledged.
--
-- Codecs: writing costs about 0.7 us of CPU per record and 1.0 us per window, and no codec changed that measurably; ids
-- are the largest column and ZSTD takes a fifth of all bytes off. Random hashes do not compress at all. The index by
-- subject costs 1 % of the bytes and finds one subject's rows among many.

-- Counted events. Read it with FINAL: a repeated insert shows twice until a merge.
CREATE TABLE IF NOT EXISTS usage_records
(
    org_id        LowCardinality(String),
    metric_key    LowCardinality(String),
    subject_type  LowCardinality(String),
    subject_id    String,
    id            String CODEC(ZSTD(1)),
    quantity      Decimal(38, 9),
    source        Nullable(String),
    resource_type Nullable(String),
    resource_id   Nullable(String),
    metadata      Nullable(String),
    timestamp     DateTime64(6, 'UTC') CODEC(Delta, LZ4),
    received_at   DateTime64(6, 'UTC') CODEC(Delta, LZ4) COMMENT 'the broker''s stamp',
    partition     Int32,
    offset        Int64 CODEC(Delta, LZ4),
    identity_hash UInt64 CODEC(NONE) COMMENT 'xxHash64 of subject key and id',
    INDEX by_subject subject_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (partition, received_at, offset)
TTL toDateTime(received_at) + toIntervalSecond({record_retention_seconds})
SETTINGS ttl_only_drop_parts = 1,
    fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- Events whose identity was counted before, at counted_offset of the same partition.
CREATE TABLE IF NOT EXISTS usage_duplicates
(
    org_id         LowCardinality(String),
    metric_key     LowCardinality(String),
    subject_type   LowCardinality(String),
    subject_id     String,
    id             String,
    quantity       Decimal(38, 9),
    timestamp      DateTime64(6, 'UTC') CODEC(Delta, LZ4),
    received_at    DateTime64(6, 'UTC') CODEC(Delta, LZ4) COMMENT 'the broker''s stamp',
    partition      Int32,
    offset         Int64 CODEC(Delta, LZ4),
    counted_offset Int64 CODEC(Delta, LZ4)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (partition, received_at, offset)
TTL toDateTime(received_at) + toIntervalSecond({record_retention_seconds})
SETTINGS ttl_only_drop_parts = 1,
    fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- Messages that can never be counted, with their original bytes.
CREATE TABLE IF NOT EXISTS usage_rejected
(
    partition   Int32,
    offset      Int64 CODEC(Delta, LZ4),
    received_at DateTime64(6, 'UTC') CODEC(Delta, LZ4) COMMENT 'the broker''s stamp',
    reason      LowCardinality(String),
    detail      String,
    key         String COMMENT 'the message key, as it came',
    value       String COMMENT 'the message value, as it came'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (partition, received_at, offset)
TTL toDateTime(received_at) + toIntervalSecond({record_retention_seconds})
SETTINGS ttl_only_drop_parts = 1,
    fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- The cumulative state of each window: the row with the highest folded_through is the newest.
CREATE TABLE IF NOT EXISTS usage_windows
(
    org_id         LowCardinality(String),
    metric_key     LowCardinality(String),
    subject_type   LowCardinality(String),
    subject_id     String,
    period_type    Enum8('hourly' = 1, 'daily' = 2, 'monthly' = 3, 'lifetime' = 4),
    period_start   DateTime64(6, 'UTC') COMMENT 'the epoch for a lifetime',
    partition      Int32,
    record_count   Int64,
    sum            Decimal(38, 9),
    min            Decimal(38, 9),
    max            Decimal(38, 9),
    last           Decimal(38, 9) COMMENT 'quantity with the latest timestamp, ties by offset',
    last_timestamp DateTime64(6, 'UTC'),
    last_offset    Int64,
    folded_through Int64 COMMENT 'highest offset in this state',
    INDEX by_subject subject_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(folded_through)
PARTITION BY toYYYYMM(period_start)
ORDER BY (partition, period_type, period_start, org_id, metric_key, subject_type, subject_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- Where the fold of each partition stands: written after everything below next_offset is stored.
CREATE TABLE IF NOT EXISTS fold_progress
(
    partition   Int32,
    next_offset Int64 COMMENT 'the next offset to read',
    log_start   Int64 COMMENT 'the offset at which the fold of this partition began',
    counted     UInt64,
    duplicates  UInt64,
    rejected    UInt64,
    last_stamp  DateTime64(6, 'UTC') COMMENT 'broker''s stamp of the last event read; the epoch before the first',
    flushed_at  DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY partition
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- The rules that decide what is counted, written once.
CREATE TABLE IF NOT EXISTS fold_settings
(
    name       String,
    value      String,
    earlier    Int64 DEFAULT -toUnixTimestamp64Micro(now64(6)) COMMENT 'the first row of a name stays: the largest wins'
)
ENGINE = ReplacingMergeTree(earlier)
ORDER BY name
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;
