-- Tokens of the HTTP API. `digest` is an HMAC of the secret: nobody who reads this table can use a token. A revocation is
-- a new row of the same id with a later version.
CREATE TABLE IF NOT EXISTS api_tokens
(
    id           String,
    version      Int64,
    digest       String,
    name         String,
    scopes       Array(LowCardinality(String)),
    org_id       Nullable(String),
    subject_type Nullable(String),
    subject_id   Nullable(String),
    created_at   DateTime64(6, 'UTC'),
    expires_at   Nullable(DateTime64(6, 'UTC')),
    revoked_at   Nullable(DateTime64(6, 'UTC'))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;

-- When a token was used last, noted at most once a minute by each process.
CREATE TABLE IF NOT EXISTS api_token_uses
(
    token_id     String,
    last_used_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(last_used_at)
ORDER BY token_id
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1,
    min_rows_to_fsync_after_merge = 1, min_compressed_bytes_to_fsync_after_merge = 1;
