"""The demo: a year of flights, metered on the local stack, proved, sent again, and proved again."""
