"""Who may do what: principals, and the operations that one of them may call."""
