"""Columns that fold and checker share: 128-bit sums in numpy, and the Arrow tables that they exchange."""
