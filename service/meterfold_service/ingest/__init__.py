"""Usage events that arrive over the network: read, checked, recorded through the SDK, and answered once the broker has
them."""
