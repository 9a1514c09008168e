"""The console: pages for people, in the process of the HTTP API. A page parses, calls operations, and shows what they
answer."""
