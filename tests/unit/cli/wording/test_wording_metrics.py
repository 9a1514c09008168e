"""What the commands of metrics say before they change what windows and thresholds mean, and in their errors."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from meterfold_cli.wording.metrics import OPTIONS, effects, exists, not_defined
from meterfold_schemas.definitions import MetricDefinition, UsageThreshold
from meterfold_service.contents import differences
from meterfold_service.errors import MetricKeyExists
from meterfold_service.metrics.changes import MetricChange, example_of
from meterfold_service.metrics.operations import metric_not_found
from meterfold_service.status import undefined
from meterfold_sink.metric_usage import MetricUsage, UndefinedMetric

AT = datetime(2026, 11, 1, tzinfo=UTC)
MARCH = datetime(2026, 3, 1, tzinfo=UTC)


def metric(org_id: str = "", **more: Any) -> MetricDefinition:
    values = {"id": "m", "key": "api.calls", "name": "Calls", "unit": "call", "created_at": AT, "updated_at": AT}
    return MetricDefinition(**{**values, "org_id": org_id, **more})


def threshold(name: str, org_id: str | None, **more: Any) -> UsageThreshold:
    values = {"id": f"id-{name}", "metric_key": "api.calls", "threshold": 10, "period_type": "monthly"}
    return UsageThreshold(**{**values, "name": name, "org_id": org_id, "created_at": AT, "updated_at": AT, **more})


def window(subject_id: str, count: int, *amounts: str) -> dict[str, Any]:
    names = ("sum", "min", "max", "last")
    row = {"org_id": "acme", "subject_type": "user", "subject_id": subject_id, "period_start": MARCH}
    return {**row, "record_count": count, **dict(zip(names, map(Decimal, amounts), strict=True))}


TWO = [window("one", 1, "7", "7", "7", "7"), window("ada", 2, "18.75", "8.25", "10.5", "8.25")]
USAGE = MetricUsage(48, 2, pa.table({}))


def change(
    before: MetricDefinition,
    after: MetricDefinition | None,
    *,
    usage: MetricUsage = USAGE,
    resting: tuple[UsageThreshold, ...] = (),
    judging: tuple[UsageThreshold, ...] = (),
) -> MetricChange:
    return MetricChange(before, after, usage, example_of(TWO, before, after), resting, judging)


def test_deleting_says_that_totals_go_and_which_thresholds_rest() -> None:
    found = change(metric(aggregation_type="max"), None, resting=(threshold("cap", ""),))
    assert found.changes_anything
    assert effects(found) == [
        "48 windows of 2 subjects will have no total; their records and quantities stay",
        "for example user one of acme in 2026-03: 7 -> no total",
        "1 threshold (cap (id-cap)) will not be judged, and alerts of open windows are cleared",
    ]


def test_another_aggregation_type_shows_a_window_whose_total_changes() -> None:
    judging = tuple(threshold(name, "") for name in ("a", "b", "c", "d"))
    found = change(metric(aggregation_type="max"), metric(aggregation_type="sum"), judging=judging)
    assert effects(found) == [
        "the total of 48 windows of 2 subjects changes from max to sum, in past periods too",
        "for example user ada of acme in 2026-03: 10.5 -> 18.75",
        "4 thresholds (a (id-a), b (id-b), c (id-c) and 1 more) will be judged by the new totals at once",
    ]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("unit", "token", "will be read as token instead of call; quantities are not converted"),
        ("reset_period", "daily", "stay as they are; the reset period daily applies to new thresholds"),
    ],
)
def test_unit_and_reset_period_change_how_windows_are_read(field: str, value: str, words: str) -> None:
    found = change(metric(), metric(**{field: value}))
    assert found.changes_anything
    assert effects(found) == [f"48 windows of 2 subjects {words}"]


@pytest.mark.parametrize(
    ("known", "wanted", "differs", "command"),
    [
        (("model",), ("model", "a b"), "--dimension is model, not model, a b", "--dimension model --dimension 'a b'"),
        (("model",), (), "--dimension is model, not empty", "--no-dimensions"),
    ],
)
def test_other_dimensions_are_named_with_the_options_that_change_them(
    known: tuple[str, ...], wanted: tuple[str, ...], differs: str, command: str
) -> None:
    there, asked = metric(dimensions=known), metric(dimensions=wanted)
    text = exists(MetricKeyExists(there, differences(there, asked, {"dimensions"})))
    assert differs in text
    assert f"`meterfold metric update api.calls {command}`" in text


def test_nothing_is_asked_where_nothing_that_exists_changes() -> None:
    none = MetricUsage(0, 0, pa.table({}))
    assert not change(metric(), None, usage=none).changes_anything
    assert not change(metric(), metric(unit="token"), usage=none).changes_anything
    assert not change(metric(), metric(name="Other", precision=3)).changes_anything
    # Usage stays readable when a metric becomes inactive; only its thresholds stop.
    inactive = metric(is_active=False)
    assert not change(metric(), inactive).changes_anything
    stopping = change(metric(), inactive, usage=none, resting=(threshold("cap", ""),))
    assert stopping.changes_anything
    assert effects(stopping) == [
        "1 threshold (cap (id-cap)) will not be judged, and alerts of open windows are cleared"
    ]


def test_totals_of_29_digits_are_shown_to_the_digit() -> None:
    rows = [window("big", 2, "12345678901234567890123456789.123456789", "1", "2", "1")]
    found = example_of(rows, metric(), metric(aggregation_type="max"))
    assert found is not None
    shown = effects(MetricChange(metric(), metric(aggregation_type="max"), USAGE, found, (), ()))[1]
    assert shown.endswith(": 12345678901234567890123456789.123456789 -> 2")


def test_what_concerns_one_organization_is_said_of_that_one() -> None:
    own, global_ = metric("acme", aggregation_type="max"), metric()
    each = (threshold("each", None),)
    assert effects(change(own, None, resting=each))[-1] == (
        "1 threshold (each (id-each)) will not be judged for organization acme, and alerts of open windows are cleared"
    )
    for before, after in ((own, global_), (global_, own)):
        assert effects(change(before, after, judging=each))[-1] == (
            "1 threshold (each (id-each)) will be judged for organization acme by the new totals at once"
        )


def conflict(known: MetricDefinition, wanted: MetricDefinition, given: set[str]) -> str:
    return exists(MetricKeyExists(known, differences(known, wanted, given)))


def test_a_conflict_names_what_differs_and_the_command_that_changes_it() -> None:
    known = metric(aggregation_type="max", category="api", name="API calls")
    wanted = metric(name="Other")
    assert conflict(known, wanted, {"key", "name", "unit"}) == (
        "the metric 'api.calls' of every organization exists and differs: --name is API calls, not Other. "
        "Change it with `meterfold metric update api.calls --name Other`"
    )
    assert conflict(metric("acme", aggregation_type="max"), metric("acme"), {"key", "name", "unit"}) == (
        "the metric 'api.calls' of organization acme exists and differs: --aggregation is max, not sum (the default). "
        "Change it with `meterfold metric update api.calls --org acme --aggregation sum`"
    )
    assert "--active is no, not yes (the default)" in conflict(metric(is_active=False), metric(), set())


def test_every_field_of_a_metric_that_can_change_has_an_option() -> None:
    own = {"id", "key", "org_id", "created_at", "updated_at", "version"}
    assert OPTIONS.keys() == MetricDefinition.model_fields.keys() - own


@pytest.mark.parametrize(
    ("key", "org_id", "words"),
    [
        (
            "api.cals",
            "",
            "the metric 'api.cals' is not defined: did you mean 'api.calls'? Otherwise define it with "
            "`meterfold metric define api.cals --name NAME --unit UNIT`",
        ),
        (
            "zzz",
            "acme",
            "the metric 'zzz' is not defined for organization acme: define it with "
            "`meterfold metric define zzz --name NAME --unit UNIT`",
        ),
        (
            "tokens",
            "",
            "the metric 'tokens' is not defined for every organization, only for organizations acme, b: name it with "
            "--org acme, or define it for every organization with "
            "`meterfold metric define tokens --name NAME --unit UNIT`",
        ),
        (
            "api.calls",
            "acme",
            "the metric 'api.calls' is not defined for organization acme, only for every organization: leave out --org",
        ),
    ],
)
def test_an_unknown_metric_is_guessed_and_the_remedy_is_a_command(key: str, org_id: str, words: str) -> None:
    known = [("", "api.calls"), ("acme", "tokens"), ("b", "tokens")]
    assert not_defined(metric_not_found(key, org_id, known)) == words


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            {"guess": "api.calls", "organizations": ("acme",), "organization_count": 1},
            "3 records this month and last month, in organization 'acme'. Did you mean 'api.calls'? Correct the "
            "application, or define the metric with `meterfold metric define`",
        ),
        (
            {"organizations": ("",), "organization_count": 1, "records": 1, "deleted": True},
            "1 record this month and last month, without an organization. Its definition was deleted. Define it again "
            "with `meterfold metric define`",
        ),
        (
            {"organizations": ("", "a", "b"), "organization_count": 1003, "elsewhere": True},
            "3 records this month and last month, in organizations none, 'a', 'b' and 1,000 more. Other organizations "
            "have defined it; define it for these too, with `meterfold metric define`",
        ),
    ],
)
def test_a_metric_without_a_definition_is_one_sentence(found: dict[str, Any], words: str) -> None:
    plain = {"key": "api.cals", "records": 3, "last_used": AT, "deleted": False, "elsewhere": False, "guess": None}
    assert undefined.sentence(UndefinedMetric(**{**plain, **found})) == (
        f"metric 'api.cals' has usage and no definition: {words}"
    )
