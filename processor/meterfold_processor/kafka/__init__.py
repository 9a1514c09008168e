"""Kafka as the processors use it: clients, their errors, offsets, topics, groups."""
