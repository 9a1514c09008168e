"""Limits: what is blocked or near its limit, from memory that follows the topic threshold.state."""
