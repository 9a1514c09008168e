"""The end of processes that never run atexit: children of multiprocessing, and the workers of Celery's prefork pool.

They end with `os._exit` after a clean-up of their own, which has hooks. A child that records takes them with its first
event. What ends without any hook (SIGKILL, `os._exit` by hand, RQ's work horse) needs a flush of the application's own:
docs/recording.md.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import Any, Final, Protocol

__all__ = ["finish_at_process_end"]

# After every other finalizer (the ones of multiprocessing's queues have -5): they may record, too.
_LAST: Final = -100
_IMPORTED_IN: Final = os.getpid()


class _Finishing(Protocol):
    def finish(self, *, last: bool) -> None:
        """Send what is buffered; `last`: nothing more is recorded, so account for the rest. Never raises."""


def finish_at_process_end(thing: _Finishing) -> None:
    """Call `thing.finish(last=...)` when this process, a child of multiprocessing or Celery, ends. Harmless elsewhere.

    Only what is imported already is looked at: a child of theirs has them.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        _hook(util, thing)
        # A child clears these hooks at its start. One of a fork server has run the main module before that.
        util.register_after_fork(thing, _again)
    if (signals := sys.modules.get("celery.signals")) is not None:
        reference = weakref.ref(thing)
        uid = f"meterfold-{id(thing)}-{os.getpid()}"
        signals.worker_process_shutdown.connect(lambda **_: _finish(reference, last=True), weak=False, dispatch_uid=uid)


def _hook(util: Any, thing: _Finishing) -> None:
    util.Finalize(thing, _finish_child, args=(weakref.ref(thing),), exitpriority=_LAST)


def _again(thing: _Finishing) -> None:
    _hook(sys.modules["multiprocessing.util"], thing)


def _finish_child(reference: weakref.ref[_Finishing]) -> None:
    if os.getpid() == _IMPORTED_IN and not _is_child_of_multiprocessing():
        return  # a program of its own, which has atexit
    # The child waits for its other threads after this, and they may still record.
    others = any(_may_record(thread) for thread in threading.enumerate())
    if others:
        _AfterTheOthers(reference).start()
    _finish(reference, last=not others)


def _finish(reference: weakref.ref[_Finishing], *, last: bool) -> None:
    thing = reference()
    if thing is not None:
        thing.finish(last=last)


def _is_child_of_multiprocessing() -> bool:
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None


class _AfterTheOthers(threading.Thread):
    """Not a daemon: the child waits for it, and it waits for the others."""

    def __init__(self, reference: weakref.ref[_Finishing]) -> None:
        super().__init__(name="meterfold-process-end", daemon=False)
        self._reference = reference

    def run(self) -> None:
        while others := [thread for thread in threading.enumerate() if _may_record(thread)]:
            for thread in others:
                thread.join()
        _finish(self._reference, last=True)


def _may_record(thread: threading.Thread) -> bool:
    return not (thread.daemon or thread is threading.main_thread() or isinstance(thread, _AfterTheOthers))
