"""The `meterfold` command."""
