"""A data frame or Arrow table as messages, column by column.

The columns decide which rows are plainly valid; those are checked and encoded here, without a step of Python for each
row. Every other row (invalid, or with text that needs escapes in its key) takes the way of `record`, so the rules and
the messages are the same. Needs pyarrow and numpy (the extra `frames`), which are imported with the first frame.
"""
