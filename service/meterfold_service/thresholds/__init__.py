"""Thresholds: create, change, delete and list them, whom they watch, and why one rests."""
