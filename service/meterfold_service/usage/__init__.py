"""Usage: records and summaries."""
