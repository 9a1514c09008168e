-- How far definitions and threshold events are copied from their topics: written after everything below next_offset is
-- stored. It is restored together with the rows, as the offsets that a consumer group commits are not.
CREATE TABLE IF NOT EXISTS mirror_progress
(
    topic       String,
    partition   Int32,
    next_offset Int64 COMMENT 'the next offset to read'
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (topic, partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;
