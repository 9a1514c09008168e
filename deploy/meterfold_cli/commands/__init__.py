"""One module per command: its options here, what is heavy imported when it runs."""
