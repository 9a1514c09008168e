-- Whose a rejected message is, as far as it can be read: from the event, else from a key that is a subject key, else
-- empty. Rows of earlier versions have empty columns.
ALTER TABLE usage_rejected ADD COLUMN IF NOT EXISTS org_id LowCardinality(String) DEFAULT '';
ALTER TABLE usage_rejected ADD COLUMN IF NOT EXISTS metric_key LowCardinality(String) DEFAULT '';
ALTER TABLE usage_rejected ADD COLUMN IF NOT EXISTS subject_type LowCardinality(String) DEFAULT '';
ALTER TABLE usage_rejected ADD COLUMN IF NOT EXISTS subject_id String DEFAULT '';

-- What was decided about schema fingerprints that came on usage.recorded. A decision is written once and wins for ever:
-- of two rows of one key the first stays (the largest `earlier`). A worker obeys it when it is some seconds old, so that
-- no earlier one can still turn up.
CREATE TABLE IF NOT EXISTS schema_decisions
(
    fingerprint String COMMENT '16 hexadecimal digits, in the order of the wire',
    fact        LowCardinality(String) COMMENT 'seen, wait or decision',
    value       String COMMENT 'of a decision: poison, or the name of a schema such as usage_recorded.v1',
    detail      String COMMENT 'where it was seen, or why it was decided',
    at          DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC'),
    earlier     Int64 DEFAULT -toUnixTimestamp64Micro(now64(6)) COMMENT 'the first row of a key stays: the largest wins'
)
ENGINE = ReplacingMergeTree(earlier)
ORDER BY (fingerprint, fact)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;
