"""The documentation names what there is: every command, every setting with its default, every exit code."""

from __future__ import annotations

import re

import pytest

from meterfold.settings import SdkSettings
from meterfold_cli import exits, main
from meterfold_processor.checker.settings import CheckerSettings
from meterfold_processor.fold.settings import FoldSettings, SchemaRegistrySettings
from meterfold_processor.probes.settings import HealthSettings
from meterfold_schemas.settings import Settings
from meterfold_schemas.settings_sources import SECTIONS
from meterfold_service.backups.settings import BackupSettings
from meterfold_service.http.settings import HttpSettings
from meterfold_service.notify.settings import NotifySettings
from support.paths import ROOT


@pytest.mark.parametrize(
    ("section", "model"),
    [
        ("sdk", SdkSettings),
        ("fold", FoldSettings),
        ("checker", CheckerSettings),
        ("health", HealthSettings),
        ("backup", BackupSettings),
        ("schema_registry", SchemaRegistrySettings),
        ("notify", NotifySettings),
        ("http", HttpSettings),
    ],
)
def test_every_setting_is_documented_with_its_default(section: str, model: type[Settings]) -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    table = text.split(f"## [{section}]\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", table, re.MULTILINE))
    assert rows.keys() == model.model_fields.keys()
    assert section in SECTIONS, "a table of the settings file that is refused"
    for name, field in model.model_fields.items():
        default = field.default
        shown = ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        assert rows[name].replace(",", "") == (shown or "empty").replace(",", ""), name


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == codes


SUBCOMMANDS = {
    "backup": ("create", "list", "check", "restore"),
    "alert": ("list", "acknowledge", "resolve"),
    "rejected": ("list", "show", "redrive"),
    "settings": ("show", "set"),
    "schema": ("export", "list", "poison", "alias", "wait"),
    "notify": ("list", "show", "redeliver", "test", "endpoints", "enable", "secret", "new-secret"),
    "metric": ("define", "update", "delete", "get", "list"),
    "threshold": ("create", "update", "delete", "list"),
    "token": ("create", "list", "revoke", "link"),
    "usage": ("get", "summary", "export"),
    "periods": ("close", "due", "list", "adjustments"),
}


def test_every_command_and_every_option_of_the_documentation_exists(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (meterfold .*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    documented = set()
    for heading, body in sections:
        helped = ""
        for name in re.findall(r"meterfold (\w+)", heading):
            documented.add(name)
            for arguments in [(name,), *((name, sub) for sub in SUBCOMMANDS.get(name, ()))]:
                assert main.run([*arguments, "--help"]) == 0, arguments
                helped += capsys.readouterr().out
        unknown = {option for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", body) if option not in helped}
        assert not unknown, heading
    assert main.run(["--help"]) == 0
    listed = set(re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out, re.MULTILINE))
    assert documented == listed
