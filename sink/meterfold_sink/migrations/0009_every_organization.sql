-- A threshold may watch every organization. The rows that are there keep their meaning.
ALTER TABLE thresholds MODIFY COLUMN IF EXISTS org_id Nullable(String)
    COMMENT 'null: every organization; empty: subjects without an organization';
