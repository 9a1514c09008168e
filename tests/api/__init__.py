"""The HTTP API against what other people's tools make of its OpenAPI document."""
