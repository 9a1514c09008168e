"""Rows for the tables of the sink, and the windows that a slow and obvious fold makes of them."""
