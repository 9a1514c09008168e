"""Errors of the local stack."""

from __future__ import annotations

from meterfold_schemas.errors import Fatal


class StackError(Fatal):
    """A server of the local stack can't run; the message says what was wrong, where, and what to do."""

    code = "LOCAL_STACK"


class AlreadyRunning(StackError):
    """Another process runs a stack on the same data folder."""

    code = "STACK_RUNNING"


class Tampered(StackError):
    """A file on disk or from the network is not the one that the lock file names."""

    code = "TAMPERED_FILE"
