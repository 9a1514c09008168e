"""The fold: usage events into windows, each exactly once."""
