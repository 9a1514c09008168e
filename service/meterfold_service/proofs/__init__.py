"""Verifications that the service starts, and what they found."""
