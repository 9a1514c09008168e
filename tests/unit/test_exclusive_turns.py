"""A test that needs the machine for itself waits for the others, and they for it."""

from __future__ import annotations

import threading

from stack_support.exclusive import turn


def test_one_alone_and_the_others_together() -> None:
    seen: list[str] = []

    def take(alone: bool, name: str) -> threading.Thread:
        def run() -> None:
            with turn(alone=alone):
                seen.append(name)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    # This test has its own turn among the others, so somebody alone waits for it.
    alone = take(True, "alone")
    other = take(False, "other")
    other.join(60)
    assert seen == ["other"]
    assert alone.is_alive()
