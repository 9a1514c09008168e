"""The pages, a module for each noun. Each has `ROUTES`."""
