"""Backups of ClickHouse: written, listed, checked against the log, and restored."""
