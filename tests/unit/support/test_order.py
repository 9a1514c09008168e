"""The order of files: a name that is not there any more would quietly stop to count."""

from __future__ import annotations

from support import order
from support.paths import TESTS


def test_every_long_file_is_there() -> None:
    assert [name for name in order._LONG if not (TESTS / name).is_file()] == []


def test_alone_then_without_servers_then_long_ones() -> None:
    names = [
        ("integration/test_examples.py", False),
        ("integration/test_verify_live.py", False),
        ("unit/schemas/test_usage.py", False),
        ("simulation/fold/test_random_fold.py", False),
        ("chaos/test_short_chaos.py", True),
    ]
    ordered = sorted(names, key=lambda one: order.place(TESTS / one[0], alone=one[1]))
    assert ordered == names[::-1]
