"""Every worker replaced under load: `make test-rolling`, `make test-upgrade`."""
