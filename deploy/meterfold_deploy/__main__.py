"""`python -m meterfold_deploy` is the `meterfold` command, for whoever starts it as a child process."""

from meterfold_deploy.main import main

main()
