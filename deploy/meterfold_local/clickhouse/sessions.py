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

from meterfold_local.clickhouse.engine import Connection
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.request import SessionRequest

HAND_OVER_SECONDS = 1.0
"""How long a request waits for the one before it in its session."""


class Session:
    """One session. `connection` is set by the first statement that leaves something behind."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.busy = False
        self.expires = 0.0

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Sessions:
    """All sessions by id; from many threads. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Condition()
        self._sessions: dict[str, Session] = {}

    @contextmanager
    def lease(self, wish: SessionRequest) -> Iterator[Session]:
        """The session for one request. QueryError 373 while another request has it, 372 when it must exist and does
        not. Its time starts again when the request ends.

        A client has its answer a moment before its request ends here, and may send the next one at once: it waits.
        """
        with self._lock:
            self._lock.wait_for(lambda: not self._is_busy(wish.id), HAND_OVER_SECONDS)
            self.expire()  # after the wait: the request before this one may have left a session whose time is over
            session = self._sessions.get(wish.id)
            if session is None:
                if wish.must_exist:
                    raise QueryError(372, f"Session {wish.id} not found")
                session = self._sessions[wish.id] = Session()
            if session.busy:
                raise QueryError(373, f"Session {wish.id} is locked by a concurrent client")
            session.busy = True
        try:
            yield session
        finally:
            with self._lock:
                session.busy = False
                self._lock.notify_all()
                session.expires = self._clock() + wish.timeout
                if wish.close:
                    del self._sessions[wish.id]
            if wish.close:
                session.close()

    def _is_busy(self, name: str) -> bool:
        session = self._sessions.get(name)
        return session is not None and session.busy

    def expire(self) -> None:
        """Close the sessions whose time is over."""
        now = self._clock()
        with self._lock:
            over = [name for name, session in self._sessions.items() if not session.busy and session.expires <= now]
            gone = [self._sessions.pop(name) for name in over]
        for session in gone:
            session.close()

    def close(self) -> None:
        """Close every session that is not in use."""
        with self._lock:
            gone = [session for session in self._sessions.values() if not session.busy]
            self._sessions.clear()
        for session in gone:
            session.close()

    def __len__(self) -> int:
        with self._lock:
            return len(self._sessions)
