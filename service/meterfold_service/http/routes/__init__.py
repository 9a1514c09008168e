"""The routes, a module for each noun. A route parses, calls one operation of its caller, and shows the answer."""
