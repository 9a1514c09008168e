"""A wrong value of any METERFOLD_ variable ends a command with one line that names the variable."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterfold.settings import SdkSettings
from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.fold.settings import FoldSettings, SchemaRegistrySettings
from meterfold_processor.probes.settings import HealthSettings
from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings, Settings, load_settings
from meterfold_schemas.settings_sources import Sources
from support.cli import inside

SECTIONS: Final[Mapping[str, type[Settings]]] = {
    "schema_registry": SchemaRegistrySettings,
    "sdk": SdkSettings,
    "fold": FoldSettings,
    "checker": CheckerSettings,
    "health": HealthSettings,
}
SERVERS: Final = {
    "METERFOLD_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "METERFOLD_CLICKHOUSE_URL": "http://127.0.0.1:1",
}
VARIABLES: Final = [
    *((f"METERFOLD_{part}_{name}".upper(), part) for part, model in SECTIONS.items() for name in model.model_fields),
    *((f"METERFOLD_CLICKHOUSE_{name}".upper(), "clickhouse") for name in ClickHouseSettings.model_fields),
    ("METERFOLD_BOOTSTRAP_SERVERS", "kafka"),
    ("METERFOLD_TOPIC_PREFIX", "kafka"),
]
#: A command that reads the section.
COMMANDS: Final = {"checker": "check"}
REGISTRY_FILES: Final = ("CA_FILE", "CERTIFICATE_FILE", "KEY_FILE")
#: What no field takes; and the fields that take any text, with what is wrong for them, or nothing.
WRONG: Final = "x" * 1000 + "\t?"
TEXTS: Final = {
    "METERFOLD_SDK_ORG_ID": WRONG,
    "METERFOLD_CLICKHOUSE_USERNAME": None,
    **{f"METERFOLD_SCHEMA_REGISTRY_{name}": None for name in ("USERNAME", "PASSWORD", *REGISTRY_FILES)},
    "METERFOLD_CLICKHOUSE_PASSWORD": None,
    "METERFOLD_BOOTSTRAP_SERVERS": "  ",
}


#: What an environment can hold.
ANY_TEXT: Final = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
#: What TOML can hold.
ANY_VALUE: Final = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.text(max_size=30),
    st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


def load(section: str, environ: Mapping[str, str]) -> Settings:
    match section:
        case "kafka":
            return KafkaSettings.load(environ=environ)
        case "clickhouse":
            return ClickHouseSettings.load(environ=environ)
    return load_settings(SECTIONS[section], section, environ=environ)


def refusal(read: Callable[[], Settings]) -> str | None:
    """Why settings are refused, if they are."""
    try:
        read()
    except InvalidSettings as error:
        return str(error)
    return None


@pytest.mark.parametrize(("variable", "section"), VARIABLES)
def test_a_wrong_value_names_its_variable(variable: str, section: str) -> None:
    wrong = TEXTS.get(variable, WRONG)
    if wrong is None:
        assert load(section, {**SERVERS, variable: WRONG})
        return
    with pytest.raises(InvalidSettings) as caught:
        load(section, {**SERVERS, variable: wrong})
    text = str(caught.value)
    assert text.startswith(variable), text
    assert "\n" not in text
    assert "xxx" not in text, "the value may be a secret"


@pytest.mark.parametrize(
    ("variable", "section"), [(name, section) for name, section in VARIABLES if section != "sdk" and name not in TEXTS]
)
def test_the_command_ends_with_that_line(variable: str, section: str) -> None:
    command = COMMANDS.get(section, "fold")
    done = inside(command, env={"PATH": os.environ["PATH"], "HOME": "/", **SERVERS, variable: WRONG})
    assert done.returncode == 2, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"meterfold: {variable}"), lines


@given(st.sampled_from(VARIABLES), ANY_TEXT)
def test_any_text_is_taken_or_refused_in_one_line(place: tuple[str, str], text: str) -> None:
    variable, section = place
    said = refusal(lambda: load(section, {**SERVERS, variable: text}))
    if said is not None:
        assert said.startswith(variable)
        assert len(said.splitlines()) == 1


@given(st.sampled_from([(part, name) for part, model in SECTIONS.items() for name in model.model_fields]), ANY_VALUE)
def test_any_value_of_a_file_is_taken_or_refused_in_one_line(place: tuple[str, str], value: object) -> None:
    section, name = place
    sources = Sources({}, {section: {name: value}}, None)
    said = refusal(lambda: load_settings(SECTIONS[section], section, sources=sources))
    if said is not None:
        assert said.startswith(f"{section}.{name}")
        assert len(said.splitlines()) == 1
