"""A small installation for tests of the checker: topics, tables, and a fold that a test moves by hand."""
