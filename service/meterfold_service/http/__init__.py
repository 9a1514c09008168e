"""The HTTP API, and what serves it: routes that parse, call one operation, and show the answer."""
