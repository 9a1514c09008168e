"""The names of the workers' consumer groups."""

from __future__ import annotations

from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.fold.settings import FoldSettings
from meterfold_schemas.settings import KafkaSettings, load_settings
from meterfold_schemas.settings_sources import Sources
from meterfold_service.notify.settings import NotifySettings

__all__ = ["group_names", "notify_group", "worker_groups"]


def group_names(sources: Sources, kafka: KafkaSettings) -> tuple[str, str]:
    """The consumer groups of the fold and of the checker."""
    fold = load_settings(FoldSettings, "fold", sources=sources)
    checker = load_settings(CheckerSettings, "checker", sources=sources)
    return kafka.topic_prefix + fold.group_id, kafka.topic_prefix + checker.group_id


def notify_group(sources: Sources, kafka: KafkaSettings) -> str:
    """The consumer group of the notifiers."""
    return kafka.topic_prefix + load_settings(NotifySettings, "notify", sources=sources).group_id


def worker_groups(sources: Sources, kafka: KafkaSettings) -> tuple[str, ...]:
    """The consumer groups of all workers, that of the checker's mirror among them."""
    fold, checker = group_names(sources, kafka)
    return fold, checker, f"{checker}-mirror", notify_group(sources, kafka)
