-- The catalogue of backups: a row while a backup is written, replaced by one when it has ended.
CREATE TABLE IF NOT EXISTS backups
(
    name             String,
    destination      LowCardinality(String),
    base             String,
    status           Enum8('running' = 1, 'complete' = 2, 'failed' = 3),
    started_at       DateTime64(6, 'UTC'),
    finished_at      DateTime64(6, 'UTC'),
    partitions       Array(Int32),
    next_offsets     Array(Int64),
    needed_since     Array(Int64),
    replayable_until DateTime64(6, 'UTC'),
    total_bytes      UInt64,
    error            String
)
ENGINE = ReplacingMergeTree(finished_at)
ORDER BY name
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;
