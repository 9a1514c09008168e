"""The names of the workers' consumer groups."""

from __future__ import annotations

from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.fold.settings import FoldSettings
from meterfold_schemas.settings import KafkaSettings, load_settings
from meterfold_schemas.settings_sources import Sources

__all__ = ["group_names"]


def group_names(sources: Sources, kafka: KafkaSettings) -> tuple[str, str]:
    """The consumer groups of the fold and of the checker."""
    fold = load_settings(FoldSettings, "fold", sources=sources)
    checker = load_settings(CheckerSettings, "checker", sources=sources)
    return kafka.topic_prefix + fold.group_id, kafka.topic_prefix + checker.group_id
