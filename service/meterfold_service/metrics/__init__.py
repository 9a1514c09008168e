"""Metrics: what a change of one does, and how to say it."""
