"""The stored settings of an installation: show them, and change them while the workers are stopped."""
