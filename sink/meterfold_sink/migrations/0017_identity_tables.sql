-- Compact tables of the identities that were counted in one partition in one week, up to covered_until: what a fold worker
-- keeps in memory (counts and remainders), and the last bits of each hash, which dismiss false hits. A row is a piece of
-- one table. Everything here can be built again from usage_records.
--
-- A table of a week that is not over is replaced every day, so it is dropped after a few days; a partition holds tables of
-- one kind only. One row per granule: a look-up of one piece reads nothing else.
CREATE TABLE IF NOT EXISTS identity_tables
(
    source         String,
    partition      Int32,
    week           DateTime64(6, 'UTC'),
    covered_until  DateTime64(6, 'UTC'),
    through        Int64,
    bucket_bits    UInt8,
    piece          UInt32,
    counts         String,
    remainders     String CODEC(NONE),
    checksum       UInt32,
    rests          String CODEC(NONE),
    rests_checksum UInt32
)
ENGINE = ReplacingMergeTree
PARTITION BY (toMonday(covered_until), covered_until = week + toIntervalDay(7))
ORDER BY (source, partition, week, covered_until, through, bucket_bits, piece)
TTL toDateTime(covered_until) + if(
    covered_until = week + toIntervalDay(7), toIntervalSecond({record_retention_seconds}), toIntervalSecond(259200)
)
SETTINGS index_granularity = 1, ttl_only_drop_parts = 1,
    fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;
