"""Metric keys made of the text of columns: by a table, by a rule, or as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meterfold_cli.importing.mapping import Metric
from meterfold_cli.importing.plan import LeftOut
from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_schemas.usage_rules import METRIC_KEY_TEXT

__all__ = ["key_of_text", "metric_key_of"]

_ALPHABET: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")
_REMEMBERED: Final = 65_536
_LENGTH: Final = 200


def key_of_text(text: str, separator: str = "_") -> str:
    """Rule "key": lower case, and `separator` for every run of other characters. Raises InvalidUsage if nothing is left
    or too much."""
    made = "".join(character if character in _ALPHABET else "\0" for character in text.lower())
    key = separator.join(part for part in made.split("\0") if part)
    if not key or len(key) > _LENGTH:
        raise InvalidUsage(
            f'metric_key: rule "key" makes {shown(key)} of {shown(text)}, which is not {METRIC_KEY_TEXT}; translate it '
            "with a table"
        )
    return key


def metric_key_of(metric: Metric) -> Callable[..., str]:
    """A function of the texts of the metric's columns. It raises InvalidUsage, or LeftOut for `others = "skip"`."""
    known: dict[tuple[str, ...], str] = {}

    def make(texts: tuple[str, ...]) -> str:
        if not any(texts):
            raise InvalidUsage("metric_key is empty")
        whole = ".".join(text for text in texts if text)
        if whole in metric.table:
            return metric.table[whole]
        if metric.rule == "key":
            parts = [key_of_text(text, metric.separator) for text in texts if text]
            return metric.prefix + ".".join(parts)
        if not metric.table:
            return metric.prefix + whole
        if metric.others == "skip":
            raise LeftOut
        raise InvalidUsage(
            f"metric_key: the table has no entry for {shown(whole)}; add it with --metric-key {whole}=KEY, or "
            'translate every other text with rule = "key"'
        )

    def read(*texts: str) -> str:
        try:
            return known[texts]
        except KeyError:
            pass
        key = make(texts)
        if len(known) >= _REMEMBERED:
            known.clear()
        known[texts] = key
        return key

    return read
