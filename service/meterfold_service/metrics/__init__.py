"""Metrics: define, change, delete and list them, and what a change does to usage that exists."""
