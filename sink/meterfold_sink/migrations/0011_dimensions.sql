-- The metadata fields that usage of a metric is grouped by. Definitions of before have none.
ALTER TABLE metric_definitions ADD COLUMN IF NOT EXISTS dimensions Array(String) AFTER display_order;
