"""usage.export: every record, summary, duplicate or rejected message of a selection, as a file or a stream."""
