"""`python -m meterfold_cli` is the `meterfold` command, for whoever starts it as a child process."""

from meterfold_cli.main import main

main()
