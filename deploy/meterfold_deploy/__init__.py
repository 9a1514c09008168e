"""How Meterfold runs: the `meterfold` command and the local stack."""
