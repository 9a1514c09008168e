"""The contract of Meterfold: Avro schemas, event models, framing, keys, periods and settings."""
