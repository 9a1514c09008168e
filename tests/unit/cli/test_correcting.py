"""Corrections as people give them: options, and files."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meterfold_cli.correcting import correction_of, corrections_in, line_of, position_of
from meterfold_cli.exits import WrongInput
from meterfold_service.rejected.corrections import Correction
from meterfold_service.rejected.results import Position


def test_options_make_a_correction() -> None:
    made = correction_of(["org_id=acme", "timestamp=2026-11-22T11:00:00+01:00", "source=a=b"], ["metadata"], None)
    assert made.fields == {
        "org_id": "acme",
        "timestamp": datetime(2026, 11, 22, 10, tzinfo=UTC),
        "source": "a=b",
    }
    assert made.drop == {"metadata"}
    assert correction_of([], [], "-90m").shift == timedelta(minutes=-90)
    assert position_of("3:1042") == Position(3, 1042)
    assert str(Position(3, 1042)) == "3:1042"


@pytest.mark.parametrize(
    ("sets", "drops", "shift", "message"),
    [
        (["org_id"], [], None, "must be FIELD=VALUE"),
        (["org=acme"], [], None, "no field 'org'"),
        (["id=a", "id=b"], [], None, "gives id twice"),
        (["timestamp=2026-11-22T10:00:00"], [], None, "a time with an offset"),
        (["timestamp=soon"], [], None, "a time with an offset"),
        ([], [], "2 hours", "must be a duration"),
        (["timestamp=received_at"], [], "2h", "not both"),
        (["source=a"], ["source"], None, "set and dropped"),
    ],
)
def test_a_wrong_option_is_named(sets: list[str], drops: list[str], shift: str | None, message: str) -> None:
    with pytest.raises(WrongInput, match=message):
        correction_of(sets, drops, shift)


@pytest.mark.parametrize("text", ["3", "3:", ":4", "a:4", "3:-1", "3/4"])
def test_a_wrong_position_is_named(text: str) -> None:
    with pytest.raises(WrongInput, match="a partition and an offset"):
        position_of(text)


def test_a_file_gives_each_message_its_fields(tmp_path: Path) -> None:
    file = tmp_path / "corrections.jsonl"
    file.write_text(
        '{"partition": 3, "offset": 7, "reason": "invalid", "event": {"quantity": 0.10, "source": null}}\n\n'
        '{"partition": 0, "offset": 1, "event": {"id": "a", "metadata": {"b": [1, "c"]}}}\n'
    )
    found = corrections_in(file, Correction({"org_id": "acme", "id": "common"}))
    assert found[Position(3, 7)].fields == {"org_id": "acme", "id": "common", "quantity": "0.10", "source": None}
    assert found[Position(0, 1)].fields == {"org_id": "acme", "id": "a", "metadata": '{"b": [1, "c"]}'}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no corrections"),
        ("{", "line 1: not JSON"),
        ("[1]", "line 1: must be an object such as"),
        ('{"partition": 1, "offset": 2}', "line 1: must be an object such as"),
        ('{"partition": 1, "offset": 2, "event": {}, "more": 1}', "line 1: must be an object such as"),
        ('{"partition": 1, "offset": 2, "event": []}', "event must be an object"),
        ('{"partition": 1, "offset": -2, "event": {}}', "a partition and an offset"),
        ('{"partition": 1, "offset": 2, "event": {"org": "a"}}', "line 1: an event has no field 'org'"),
        ('{"partition": 1, "offset": 2, "event": {}}\n{"partition": 1, "offset": 2, "event": {}}', "line 2: .*twice"),
    ],
)
def test_a_wrong_file_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "corrections.jsonl"
    file.write_text(text)
    with pytest.raises(WrongInput, match=message):
        corrections_in(file, Correction())
    with pytest.raises(WrongInput, match="cannot be read"):
        corrections_in(tmp_path / "other", Correction())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    import json

    file = tmp_path / "rejected.jsonl"
    fields = {"id": "a", "timestamp": "2026-11-22T10:00:00Z"}
    file.write_text(json.dumps(line_of(Position(1, 2), fields, reason="invalid", detail="x", problems={})))
    assert corrections_in(file, Correction()) == {
        Position(1, 2): Correction({"id": "a", "timestamp": datetime(2026, 11, 22, 10, tzinfo=UTC)})
    }
