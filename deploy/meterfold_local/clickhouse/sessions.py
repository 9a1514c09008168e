"""session_id: settings (SET), the database (USE) and temporary tables that outlive a request.

clickhouse-connect sends a session_id with every request, and few ever change anything in it. So a session has a
connection of its own only from the first statement on that leaves something behind; until then a request in a session
is like one without.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from meterfold_local.clickhouse.engine import EngineConnection
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.request import SessionRequest

HAND_OVER_SECONDS = 1.0
"""How long a request waits for the one before it in its session: a client may have its answer, and send the next
request, a moment before the first one has ended here."""


class Session:
    """One session. `connection` is set by the first statement that leaves something behind."""

    def __init__(self) -> None:
        self.connection: EngineConnection | None = None
        self.busy = True
        self.expires = 0.0


class Sessions:
    """All sessions by id; from many threads. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Condition()
        self._sessions: dict[str, Session] = {}

    @contextmanager
    def lease(self, asked: SessionRequest) -> Iterator[Session]:
        """The session for one request. QueryError 373 while another request has it, 372 when it must exist and does
        not. Its time starts again when the request ends."""
        with self._lock:
            self._lock.wait_for(
                lambda: asked.id not in self._sessions or not self._sessions[asked.id].busy, HAND_OVER_SECONDS
            )
            now = self._clock()  # after the wait: the request before this one may have left a session that has expired
            self._drop(lambda session: session.expires <= now)
            session = self._sessions.get(asked.id)
            if session is None:
                if asked.must_exist:
                    raise QueryError(372, f"Session {asked.id} not found")
                session = self._sessions[asked.id] = Session()
            elif session.busy:
                raise QueryError(373, f"Session {asked.id} is locked by a concurrent client")
            session.busy = True
        try:
            yield session
        finally:
            with self._lock:
                session.busy = False
                session.expires = self._clock() + asked.timeout
                if asked.close:
                    self._drop(lambda other: other is session)
                self._lock.notify_all()

    def close(self) -> None:
        """Close every session that is not in use."""
        with self._lock:
            self._drop(lambda _: True)

    def __len__(self) -> int:
        with self._lock:
            return len(self._sessions)

    def _drop(self, is_over: Callable[[Session], bool]) -> None:
        for name, session in list(self._sessions.items()):
            if not session.busy and is_over(session):
                del self._sessions[name]
                if session.connection is not None:
                    session.connection.close()
