"""Periods: close them, list what was closed, and what has moved since."""
