"""Texts that somebody changed."""

from __future__ import annotations

__all__ = ["altered"]


def altered(text: str) -> str:
    """The text with another last character, whichever it had: a checksum or a signature at its end does not fit."""
    return text[:-1] + ("0" if text[-1] != "0" else "1")
