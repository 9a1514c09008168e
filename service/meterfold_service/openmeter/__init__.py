"""OpenMeter's API on top of Meterfold: meters are metric definitions, and a CloudEvent becomes one usage event for each
meter of its type. Everything here knows no HTTP."""
