-- Links of the console that were used, and sessions that were signed out: none of them is valid again. Both end by
-- themselves within a day, so that rows are needed no longer.
CREATE TABLE IF NOT EXISTS console_spent
(
    name     String,
    claim    String,
    spent_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (name, claim)
TTL toDateTime(spent_at) + INTERVAL 2 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- Verifications that the service has started. The row with the latest version counts.
CREATE TABLE IF NOT EXISTS proofs
(
    id       String,
    version  Int64,
    begun_at DateTime64(6, 'UTC'),
    by       String,
    state    LowCardinality(String),
    done     Int64,
    total    Int64,
    doing    String,
    summary  String
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id
TTL toDateTime(begun_at) + INTERVAL 400 DAY
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;
