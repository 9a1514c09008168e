"""The threshold checker: windows into aggregated and threshold events."""
