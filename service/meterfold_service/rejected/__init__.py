"""Rejected messages: find them, look at one, and send it again with a correction."""
