"""ThreadState: what one thread has open of a database."""

from __future__ import annotations

import threading
from contextlib import suppress

import sqlalchemy as sa

from .session import Session


class ThreadState:
    """What one thread has open; what is kept for it is closed with it."""

    def __init__(self, lock: threading.Lock, opened: set[sa.Connection]) -> None:
        self.lock = lock
        """Held during a transaction."""
        self.opened = opened
        """The connections all threads keep."""
        self.session: Session | None = None
        """The transaction it is in."""
        self.connection: sa.Connection | None = None
        """Connection of that transaction."""
        self.kept: sa.Connection | None = None
        """SQLite connection kept between transactions."""
        self.stamp: tuple[int, ...] = ()

    def close_kept(self) -> None:
        """Close the connection kept."""
        kept, self.kept = self.kept, None
        if kept in self.opened:
            self.opened.remove(kept)
            kept.close()

    def __del__(self) -> None:
        # Collected together with a database nobody closed, the connection may be gone already.
        with suppress(sa.exc.ProgrammingError):
            self.close_kept()
