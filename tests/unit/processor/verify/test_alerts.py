"""The events that follow from states, against those on the topics and their mirror."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from meterfold_processor.checker.judge import Judgement, Target
from meterfold_processor.checker.judged import JudgedState, ReadPositions, Terms, crossings, judge_again
from meterfold_processor.checker.panes import Window
from meterfold_processor.checker.records import Records
from meterfold_processor.checker.rules import NEVER, WindowRules
from meterfold_processor.kafka.offsets import Place
from meterfold_processor.verify.alerts import SeenEvent, crossed_of, crossings_of, event_id_of, expected_events
from meterfold_processor.verify.events import EventLog, Mirrored
from meterfold_processor.verify.mirrored import Alerts
from meterfold_processor.verify.report import Findings
from meterfold_schemas import framing
from meterfold_schemas.periods import Period
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_schemas.vocabulary import Action

TERMS = Terms("cap", 100, 80, Action.ALERT)
LIFETIME = Target("t1", Window(("acme", "calls", "user", "u1"), Period.LIFETIME, 0, NEVER))
DAY = 86_400_000_000
RULES = WindowRules(open_for=10 * DAY, grace=0)
EXCEEDED = "threshold.exceeded"


def at_level(level: int, before: JudgedState | None) -> JudgedState:
    return judge_again(before, level, ReadPositions(1, 1, 1), 0, TERMS)


@given(st.lists(st.integers(0, 2), max_size=12))
def test_a_state_tells_every_event_that_led_to_it(levels: list[int]) -> None:
    state, emitted = None, []
    for level in levels:
        if level != (0 if state is None else state.level):
            emitted += crossings(state, level)
            state = at_level(level, state)
    found = [] if state is None else [crossed.crossing for crossed in crossings_of(LIFETIME, state)]
    assert sorted(map(repr, found)) == sorted(map(repr, emitted))


def test_the_id_of_an_event_follows_from_its_contents() -> None:
    """As the checker writes it."""
    state = at_level(2, None)
    judgement = Judgement(LIFETIME, state, tuple(crossings(None, 2)))
    messages = Records(Topics(), 0).judgement(judgement, 1)[1:]
    read = [framing.decode(message.value or b"") for message in messages]
    found = {
        record["event_id"]: event_id_of(crossed_of(schema.name.replace("_", "."), record))  # type: ignore[arg-type]
        for schema, record in read
    }
    assert len(found) == 2
    assert all(event_id == derived for event_id, derived in found.items())
    assert found.keys() == expected_events([(LIFETIME, state)]).keys()


class Case:
    """One threshold that is exceeded: two events, each once on its topic and once in the mirror."""

    def __init__(self, target: Target = LIFETIME) -> None:
        self.findings = Findings(100)
        self.log = EventLog(KafkaSettings(bootstrap_servers="nowhere:1"), None, 1, self.findings)  # type: ignore[arg-type]
        self.expected = expected_events([(target, at_level(2, None))])
        self.rows: dict[str, Mirrored] = {}
        self.mirror_at: dict[Place, int] = {}
        self.mark = 0
        for event_id, crossed in self.expected.items():
            kind = crossed.crossing.event_type
            self.log.seen[event_id] = SeenEvent(crossed, 7, [(self.log.topic_of[kind], 0, 4)])
            self.rows[event_id] = Mirrored(7, 1000, kind, 1)
            self.mirror_at[Place(self.log.topic_of[kind], 0)] = 5
        self.exceeded = next(e for e, c in self.expected.items() if c.crossing.event_type == EXCEEDED)
        self.place = Place(self.log.topic_of[EXCEEDED], 0)

    def compare(self) -> tuple[list[tuple[str, str]], list[str]]:
        """([(place, found)], [why])."""
        early = set(self.log.seen)
        alerts = Alerts(self.log, None, RULES, 1, self.mark, self.findings)  # type: ignore[arg-type]
        alerts.compare(self.expected, early, self.rows, self.mirror_at)
        return [(f.place, f.found) for f in self.findings.found], [u.why for u in self.findings.unproven]


def test_one_event_for_each_crossing_and_one_row_for_each_event() -> None:
    assert Case().compare() == ([], [])


def test_an_event_that_was_never_written() -> None:
    case = Case()
    del case.log.seen[case.exceeded], case.rows[case.exceeded]
    assert case.compare()[0] == [(EXCEEDED, "none"), ("threshold_events", "none")]


def test_an_event_that_a_reader_sees_twice() -> None:
    case = Case()
    case.log.seen[case.exceeded].places.append((EXCEEDED, 0, 9))
    assert case.compare()[0] == [(EXCEEDED, "2 messages (partition 0 offset 4, partition 0 offset 9)")]


def test_an_event_that_follows_from_no_state() -> None:
    case = Case()
    del case.expected[case.exceeded]
    assert case.compare()[0] == [(EXCEEDED, "one at partition 0 offset 4")]


def test_an_event_whose_state_is_past_remembering_is_no_difference() -> None:
    case = Case(Target("t1", Window(("acme", "calls", "user", "u1"), Period.DAILY, 0, DAY)))
    case.expected.clear()
    case.mark = DAY + 20 * DAY
    assert len(case.compare()[0]) == 2
    case.findings.found.clear()
    case.mark += 1
    assert case.compare()[0] == []


def test_an_event_that_the_mirror_has_not_reached() -> None:
    case = Case()
    del case.rows[case.exceeded]
    case.mirror_at[case.place] = 4
    findings, (why,) = case.compare()
    assert findings == []
    assert "1 events are not in threshold_events yet" in why


def test_an_event_older_than_what_its_topic_holds() -> None:
    case = Case()
    del case.log.seen[case.exceeded]
    case.log.starts[case.place] = 3
    case.log.oldest[case.place] = 1000
    findings, (why,) = case.compare()
    assert findings == []
    assert "1 events are older" in why
    # A row from after what the topic still holds would have its event there.
    case.findings.unproven.clear()
    case.log.oldest[case.place] = 999
    assert case.compare() == ([(EXCEEDED, "none")], [])


def test_rows_of_no_event_and_rows_twice() -> None:
    case = Case()
    case.rows["made-up"] = Mirrored(7, 1000, EXCEEDED, 1)
    case.rows[case.exceeded].rows = 2
    assert case.compare()[0] == [("threshold_events", "2 rows"), ("threshold_events", "one row")]
