"""Faults by the hundred on a real local stack, and an independent oracle over what is left: `make chaos`."""
