"""The fold and the threshold checker."""
