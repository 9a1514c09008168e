"""ClickHouse for Meterfold: migrations, idempotent writers, queries."""
