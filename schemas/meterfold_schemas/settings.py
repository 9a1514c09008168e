"""The configuration of every part: keyword arguments, METERFOLD_* variables, a TOML file, defaults. The first wins.

    [kafka]                                   METERFOLD_BOOTSTRAP_SERVERS, METERFOLD_TOPIC_PREFIX
    bootstrap_servers = "broker:9092"
    topic_prefix = ""
    [kafka.librdkafka]                        METERFOLD_KAFKA_SASL_PASSWORD sets "sasl.password"
    "security.protocol" = "SASL_SSL"
    [clickhouse]                              METERFOLD_CLICKHOUSE_URL, _DATABASE, _USERNAME, _PASSWORD
    url = "http://host:8123"
    [sdk], [fold], [checker], [health] ...    METERFOLD_SDK_..., METERFOLD_FOLD_..., by each part's own model

Any librdkafka setting passes through. A secret never shows in a repr, a message or a log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.settings_sources import LOCAL_KAFKA, PREFIX, Sources, suggestion

__all__ = [
    "ClickHouseSettings",
    "KafkaSettings",
    "Settings",
    "Sources",
    "http_url",
    "librdkafka_refuses",
    "load_settings",
]

S = TypeVar("S", bound="Settings")
#: (name, shown value) of each field.
ReprArgs = Iterable[tuple[str | None, Any]]

_MASK: Final = "********"
_SECRET_WORDS: Final = ("password", "secret", "credential", "token", "jaas", "key", ".pem", "oauthbearer.config")
_KAFKA_START: Final = "KAFKA_"
_PROPERTY: Final = re.compile(r"""property:? ["'`]([^"'`]+)["'`]""")


class Settings(BaseModel):
    """Base of every settings model: frozen, without unknown fields. Errors do not contain the refused values."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True)

    def __str__(self) -> str:
        return repr(self)


class KafkaSettings(Settings):
    """The address of the cluster, and settings that are passed to librdkafka unchanged."""

    bootstrap_servers: str = Field(min_length=1)
    topic_prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]{0,200}$")
    librdkafka: Mapping[str, str] = Field(default_factory=dict)

    @field_validator("librdkafka", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        # TOML has booleans and numbers; librdkafka takes text, and Python's "True" is not its "true".
        if isinstance(value, Mapping):
            return {name: _text(entry) for name, entry in value.items()}
        return value

    @field_validator("librdkafka")
    @classmethod
    def _no_servers(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        if "bootstrap.servers" in value or "metadata.broker.list" in value:
            raise ValueError("set the brokers with bootstrap_servers")
        return value

    @classmethod
    def load(
        cls,
        *,
        sources: Sources | None = None,
        environ: Mapping[str, str] | None = None,
        config: Path | str | None = None,
        **arguments: Any,
    ) -> Self:
        """Raises InvalidSettings. Arguments that are None count as not given."""
        sources = sources or Sources.read(environ=environ, config=config)
        variables = sources.variables
        values = sources.table("kafka")
        given = {
            name: variables[name.upper()] for name in ("bootstrap_servers", "topic_prefix") if name.upper() in variables
        }
        passed = {
            name[len(_KAFKA_START) :].lower().replace("_", "."): value
            for name, value in variables.items()
            if name.startswith(_KAFKA_START) and name not in LOCAL_KAFKA
        }
        arguments = {name: value for name, value in arguments.items() if value is not None}
        values = {**values, **given, **arguments}
        through = sources.table("kafka").get("librdkafka", {})
        more = arguments.get("librdkafka", {})
        if isinstance(through, Mapping) and isinstance(more, Mapping):
            values["librdkafka"] = {**through, **passed, **more}
        _check_names(cls, "kafka", values, sources.path)
        if "bootstrap_servers" not in values:
            raise InvalidSettings(
                f"the Kafka cluster is not configured: set {PREFIX}BOOTSTRAP_SERVERS, or set {PREFIX}CONFIG to a "
                "settings file with bootstrap_servers under [kafka]. `meterfold up` starts a local stack and prints "
                "that setting"
            )
        from_variables = {name: PREFIX + name.upper() for name in given if name not in arguments}
        return _validated(cls, "kafka", values, sources.path, from_variables)

    def client(self, **more: Any) -> dict[str, Any]:
        """The dictionary for a confluent_kafka client; `more` (dotted names) wins over what was passed through."""
        return {"bootstrap.servers": self.bootstrap_servers, **self.librdkafka, **more}

    def __repr_args__(self) -> ReprArgs:
        # What repr, str, rich and debuggers that know pydantic show.
        yield "bootstrap_servers", self.bootstrap_servers
        yield "topic_prefix", self.topic_prefix
        yield "librdkafka", {name: _MASK if _is_secret(name) else value for name, value in self.librdkafka.items()}


class ClickHouseSettings(Settings):
    """The address of ClickHouse's HTTP interface."""

    url: str
    database: str = Field(default="meterfold", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,100}$")
    username: str = "default"
    password: SecretStr = SecretStr("")

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        return http_url(value)

    @classmethod
    def load(
        cls,
        *,
        sources: Sources | None = None,
        environ: Mapping[str, str] | None = None,
        config: Path | str | None = None,
        **arguments: Any,
    ) -> Self:
        """Raises InvalidSettings. Arguments that are None count as not given."""
        sources = sources or Sources.read(environ=environ, config=config)
        given = {name: value for name, value in arguments.items() if value is not None}
        words = sources.words("clickhouse", cls.model_fields)
        values = {**sources.table("clickhouse"), **words, **given}
        _check_names(cls, "clickhouse", values, sources.path)
        if "url" not in values:
            raise InvalidSettings(
                f"the ClickHouse server is not configured: set {PREFIX}CLICKHOUSE_URL, or set {PREFIX}CONFIG to a "
                "settings file with url under [clickhouse]. `meterfold up` starts a local stack and prints that setting"
            )
        return _validated(cls, "clickhouse", values, sources.path, _variables("clickhouse", words, given))


def load_settings(
    model: type[S],
    section: str,
    *,
    sources: Sources | None = None,
    environ: Mapping[str, str] | None = None,
    config: Path | str | None = None,
    **arguments: Any,
) -> S:
    """One part's own settings, from arguments, METERFOLD_<SECTION>_<FIELD> and the table [section].

    Raises InvalidSettings. Arguments that are None count as not given.
    """
    sources = sources or Sources.read(environ=environ, config=config)
    given = {name: value for name, value in arguments.items() if value is not None}
    words = sources.words(section, model.model_fields)
    values = {**sources.table(section), **words, **given}
    return _validated(model, section, values, sources.path, _variables(section, words, given))


def http_url(value: str) -> str:
    """The URL of a server without a slash at its end. Raises ValueError for one that is not HTTP, or has a password."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError('give a URL such as "http://host:8123"')
    if parts.username or parts.password:
        raise ValueError("set username and password as separate settings, not in the URL")
    return value.rstrip("/")


def librdkafka_refuses(text: str, environ: Mapping[str, str] | None = None) -> InvalidSettings:
    """The error for settings that librdkafka refuses when a client is created; it names the variable that set them."""
    found = _PROPERTY.search(text)
    name = found.group(1) if found else ""
    variable = f"{PREFIX}{_KAFKA_START}{name.upper().replace('.', '_')}"
    if name and variable in (os.environ if environ is None else environ):
        return InvalidSettings(f"librdkafka refuses {name}, set by the variable {variable}: {text}")
    where = f"Correct {name} under [kafka.librdkafka]" if name else "See [kafka.librdkafka]"
    return InvalidSettings(f"librdkafka refuses the settings: {text}. {where}")


def _variables(section: str, words: Iterable[str], given: Mapping[str, Any]) -> dict[str, str]:
    """Field -> the variable that sets it, of those that no argument sets."""
    return {name: f"{PREFIX}{section.upper()}_{name.upper()}" for name in words if name not in given}


def _validated(
    model: type[S], section: str, values: Mapping[str, Any], path: Path | None, variables: Mapping[str, str]
) -> S:
    """`variables`: field -> the variable that it comes from."""
    _check_names(model, section, values, path)
    try:
        return model(**values)
    except ValidationError as error:
        # Location and message only: the input may be a secret.
        found = [
            f"{_place(section, entry['loc'], variables)}: {entry['msg'].removeprefix('Value error, ')}"
            for entry in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise InvalidSettings("; ".join(found)) from None


def _place(section: str, location: tuple[int | str, ...], variables: Mapping[str, str]) -> str:
    """Where to correct a value: its variable if it comes from one, and its name in a file."""
    name = ".".join([section, *map(str, location)])
    variable = variables.get(str(location[0])) if location else None
    return name if variable is None else f"{variable} ({name})"


def _check_names(model: type[Settings], section: str, values: Mapping[str, Any], path: Path | None) -> None:
    for name in values:
        if name not in model.model_fields:
            where = f" (in {path})" if path else ""
            raise InvalidSettings(f"unknown setting {section}.{name}{where}.{suggestion(name, model.model_fields)}")


def _text(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _is_secret(name: str) -> bool:
    return any(word in name for word in _SECRET_WORDS)
