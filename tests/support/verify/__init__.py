"""A small real history: events through the fold and the checker, and copies of its tables to tamper with."""
