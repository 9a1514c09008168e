"""The installation that a command uses: `--config FILE`, METERFOLD_* variables, or the local stack in this folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meterfold_schemas.settings_sources import Sources

if TYPE_CHECKING:
    from meterfold_processor.fold.settings import SchemaRegistrySettings
    from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file. [default: METERFOLD_CONFIG, ./meterfold.toml, or ./.meterfold/meterfold.toml]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@dataclass(frozen=True, slots=True)
class Installation:
    """The servers, as the settings name them. Reads nothing but settings; raises InvalidSettings."""

    sources: Sources

    @classmethod
    def read(cls, config: Path | None = None) -> Installation:
        return cls(Sources.read(config=config, folder=Path()))

    def kafka(self) -> KafkaSettings:
        from meterfold_schemas.settings import KafkaSettings

        return KafkaSettings.load(sources=self.sources)

    def clickhouse(self) -> ClickHouseSettings:
        from meterfold_schemas.settings import ClickHouseSettings

        return ClickHouseSettings.load(sources=self.sources)

    def schema_registry(self) -> SchemaRegistrySettings:
        from meterfold_processor.fold.settings import SchemaRegistrySettings
        from meterfold_schemas.settings import load_settings

        return load_settings(SchemaRegistrySettings, "schema_registry", sources=self.sources)
