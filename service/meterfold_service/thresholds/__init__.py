"""Thresholds: whom they watch, where they stand, and why one rests."""
