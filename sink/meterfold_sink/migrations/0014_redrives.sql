-- Rejected messages that were sent again, corrected. A claim says with which correction; of two claims of one message
-- the first one stays (the largest `earlier`), and only its event is ever sent, so no message is sent again as two
-- different events. The rows of a message expire with it: the layout is that of usage_rejected.
CREATE TABLE IF NOT EXISTS rejected_redrives
(
    partition      Int32,
    offset         Int64 CODEC(Delta, LZ4),
    received_at    DateTime64(6, 'UTC') CODEC(Delta, LZ4),
    fact           LowCardinality(String),
    by             String,
    note           String,
    key            String,
    value          String CODEC(ZSTD(1)),
    sent_partition Int32 DEFAULT -1,
    sent_offset    Int64 DEFAULT -1,
    at             DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC'),
    earlier        Int64 DEFAULT -toUnixTimestamp64Micro(now64(6))
)
ENGINE = ReplacingMergeTree(earlier)
PARTITION BY toYYYYMM(received_at)
ORDER BY (partition, received_at, offset, fact)
TTL toDateTime(received_at) + toIntervalSecond({record_retention_seconds})
SETTINGS ttl_only_drop_parts = 1,
    fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;
