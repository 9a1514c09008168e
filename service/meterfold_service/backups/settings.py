"""Where backups go, and how often one is full."""

from __future__ import annotations

from pydantic import Field, field_validator

from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.settings import Settings
from meterfold_sink.backup_parts import Destination


class BackupSettings(Settings):
    """Table [backup], variables METERFOLD_BACKUP_..."""

    destination: str = "disk:backups"
    """disk:NAME, s3:COLLECTION or file:/FOLDER, each with a path inside of it if wanted."""
    full_days: float = Field(default=7.0, ge=0, le=365)
    """A backup is full when the newest full one is older than this; 0: every one."""

    @field_validator("destination")
    @classmethod
    def _known_kind(cls, value: str) -> str:
        try:
            Destination.parse(value)
        except InvalidSettings as error:
            raise ValueError(str(error)) from None
        return value
