"""Alerts: list them, acknowledge and resolve them."""
