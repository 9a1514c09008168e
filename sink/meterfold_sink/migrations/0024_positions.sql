-- verify and the outcome of an import ask for the rows of some offsets of a partition. The sort key has the offset
-- behind the broker's stamp, so each such question read the whole partition: now it reads the granules with these
-- offsets only.
ALTER TABLE usage_records ADD INDEX IF NOT EXISTS by_position (partition, offset) TYPE minmax GRANULARITY 1;
ALTER TABLE usage_records MATERIALIZE INDEX by_position;
ALTER TABLE usage_duplicates ADD INDEX IF NOT EXISTS by_position (partition, offset) TYPE minmax GRANULARITY 1;
ALTER TABLE usage_duplicates MATERIALIZE INDEX by_position;
ALTER TABLE usage_rejected ADD INDEX IF NOT EXISTS by_position (partition, offset) TYPE minmax GRANULARITY 1;
ALTER TABLE usage_rejected MATERIALIZE INDEX by_position;
