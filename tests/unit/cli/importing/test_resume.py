"""An import that broke off and continues: what is skipped, what is sent again, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meterfold import DeliveryCounts, FlushTimeout
from meterfold_cli.exits import WrongInput
from meterfold_cli.importing import mapping_file, resume
from meterfold_cli.importing.checking import TimeLimits, check
from meterfold_cli.importing.mapping import Mapping
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.run import Import, Summary
from meterfold_cli.importing.source import Form, Source
from support.played_meter import PlayedMeter

PLAIN = Options(mapping={}, fixed={}, id_from=[], ignore_others=False)
HEADER = "id,metric_key,subject_type,subject_id,quantity,timestamp\n"
AT = "2026-11-22T10:00:00Z"


def write(path: Path, rows: int) -> Path:
    path.write_text(HEADER + "".join(f"e{number},m,user,u,1,{AT}\n" for number in range(rows)), encoding="utf-8")
    return path


def run(path: Path, meter: Any, **options: Any) -> Summary:
    silent: Any = lambda *_, **__: None  # noqa: E731
    with Source(path, PLAIN, Form()) as source:
        rows, plan = source.open()
        return Import(rows, plan, meter, source.rejects(rows, None), silent, **options).run()


def test_an_interrupted_import_continues_behind_what_was_delivered(tmp_path: Path) -> None:
    path = write(tmp_path / "usage.csv", 10)
    first, second = PlayedMeter(interrupted_at=4), PlayedMeter()
    summary = run(path, first)
    assert (summary.interrupted, summary.delivered_through) == (True, 5)
    summary = run(path, second, skip_through=summary.delivered_through)
    assert [event.id for event in first.events] == [f"e{number}" for number in range(4)]
    assert [event.id for event in second.events] == [f"e{number}" for number in range(4, 10)]
    assert (summary.read, summary.skipped, summary.delivered, summary.complete) == (10, 4, 6, True)


def test_a_row_of_several_measures_is_delivered_as_a_whole_or_sent_again(tmp_path: Path) -> None:
    path = tmp_path / "usage.csv"
    path.write_text("id,at,user,a,b\n" + "".join(f"e{n},{AT},u,{n},{n}\n" for n in range(1, 4)), encoding="utf-8")
    options = Options(
        mapping={"at": "timestamp"},
        fixed={},
        id_from=[],
        ignore_others=False,
        measures=[("a", "a"), ("b", "b")],
        subjects=[("user", "user")],
    )
    silent: Any = lambda *_, **__: None  # noqa: E731
    meter = PlayedMeter(interrupted_at=3)
    with Source(path, options, Form()) as source:
        rows, plan = source.open()
        summary = Import(rows, plan, meter, source.rejects(rows, None), silent).run()  # type: ignore[arg-type]
    assert [(event.id, event.metric_key) for event in meter.events] == [("e1", "a"), ("e1", "b"), ("e2", "a")]
    assert (summary.last_line, summary.delivered_through) == (3, 2)


def test_positions_are_saved_on_the_way_and_never_beyond_what_is_delivered(tmp_path: Path) -> None:
    path = write(tmp_path / "usage.csv", 3500)
    saved: list[int] = []
    assert run(path, PlayedMeter(), checkpoint=saved.append, checkpoint_seconds=0).complete
    assert saved == [1001, 2001, 3001, 3501]
    saved.clear()
    summary = run(path, PlayedMeter(broken_from=1500), checkpoint=saved.append, checkpoint_seconds=0)
    assert saved == [1001]
    assert (summary.delivered_through, summary.complete) == (1001, False)


class StalledMeter(PlayedMeter):
    """The brokers confirm `confirmed` events and then nothing."""

    trouble = "Connection refused"

    def __init__(self, confirmed: int) -> None:
        super().__init__()
        self._confirmed = confirmed

    @property
    def counts(self) -> DeliveryCounts:
        delivered = min(self._confirmed, len(self.events))
        lost = len(self.events) - delivered if self.closed else 0
        return DeliveryCounts(len(self.events), delivered, lost)

    def flush(self, timeout: float | None = None) -> None:
        if self.counts.outstanding:
            raise FlushTimeout(self.counts.outstanding, timeout or 0)


def test_an_import_ends_when_nothing_is_delivered_any_more(tmp_path: Path) -> None:
    path = write(tmp_path / "usage.csv", 5000)
    summary = run(path, StalledMeter(700), stall_seconds=0.05)
    assert not summary.complete
    assert not summary.interrupted
    assert (summary.delivered, summary.failed) == (700, summary.handed_in - 700)
    assert summary.first_failure is not None
    assert summary.first_failure.startswith("no event was delivered for ")
    assert summary.first_failure.endswith(": Connection refused")
    assert summary.delivered_through == 0


def test_an_import_does_not_end_while_events_are_delivered(tmp_path: Path) -> None:
    class SlowMeter(StalledMeter):
        def flush(self, timeout: float | None = None) -> None:
            self._confirmed += 1
            super().flush(timeout)

    assert run(write(tmp_path / "usage.csv", 50), SlowMeter(0), stall_seconds=30).complete


def position(path: Path, text: str = "", topic: str = "t at k", org_id: str = "") -> resume.Position:
    base = mapping_file.preset("litellm").plain()
    made = Mapping.model_validate({**base, "description": text})
    return resume.fingerprint(path, made, org_id, topic)


def test_a_position_is_read_back_and_forgotten(tmp_path: Path) -> None:
    path = write(tmp_path / "usage.csv", 3)
    resume.save(path, position(path).at(2))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["usage.csv", "usage.csv.resume.json"]
    assert resume.load(path, position(path)).line == 2
    resume.forget(path)
    with pytest.raises(WrongInput, match=r"--resume: there is no .*resume.json, so no import of .* broke off"):
        resume.load(path, position(path))
    resume.forget(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: write(path, 4), r"usage.csv changed since the import broke off: \d+ bytes then, \d+ now"),
        (
            lambda path: path.write_text(path.read_text().replace("e1", "e7")),
            "usage.csv changed since the import broke off: the contents differ",
        ),
        (lambda path: resume.path_of(path).write_text("{"), "cannot be read: .*; import the file without --resume"),
        (lambda path: resume.path_of(path).write_text("[]"), "cannot be read"),
        (lambda path: resume.path_of(path).write_text('{"version":1}'), "cannot be read"),
    ],
)
def test_a_file_that_changed_is_not_continued(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    path = write(tmp_path / "usage.csv", 3)
    resume.save(path, position(path).at(2))
    change(path)
    with pytest.raises(WrongInput, match=message):
        resume.load(path, position(path))


@pytest.mark.parametrize(
    ("now", "message"),
    [
        ({"text": "other"}, "--resume: the options or the mapping changed. Import it without --resume"),
        ({"org_id": "acme"}, "the options or the mapping changed"),
        ({"topic": "t at other"}, "it was sent to t at k, and now goes to t at other"),
    ],
)
def test_other_options_are_another_import(tmp_path: Path, now: dict[str, str], message: str) -> None:
    path = write(tmp_path / "usage.csv", 3)
    resume.save(path, position(path).at(2))
    with pytest.raises(WrongInput, match=message):
        resume.load(path, position(path, **now))


def test_a_position_of_another_version_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "usage.csv", 3)
    resume.save(path, position(path).at(2))
    file = resume.path_of(path)
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 2}))
    with pytest.raises(WrongInput, match="was written by another version"):
        resume.load(path, position(path))


def test_rows_that_were_delivered_are_not_too_old_when_the_import_continues(tmp_path: Path) -> None:
    path = write(tmp_path / "usage.csv", 3)
    limits = TimeLimits(60, 300)  # everything in the file is too old by now
    silent: Any = lambda *_, **__: None  # noqa: E731
    with Source(path, PLAIN, Form()) as source:
        found = check(*source.open(), "", limits, silent, delivered_through=3)
    assert found.untimely == {"too_old": 1}
    assert [finding.line for finding in found.untimely_shown] == [4]
