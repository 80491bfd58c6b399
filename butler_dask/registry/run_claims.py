"""RunClaims: one command at a time writes a RUN, and the others are told which one it is.

The claim of a run is an entry of the table ``repository`` and not a table of its own: there are as many as
runs being written just now, each is looked up by the run's name alone, and no repository has to be migrated
for it. Being in the registry, it is taken in a transaction, on whatever file system or server that is. Its
holder renews it while it writes. It does not outlive its holder: on the same machine one sees whether a
process runs; from elsewhere a claim that was not renewed for a minute is taken over. The holder of a claim
that was taken over (it was suspended, or cut off) can record nothing more: see `RunClaims.confirm`.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Self

from ..errors import ButlerDaskError, RunInUseError
from .database import Database, repeated
from .session import Session
from .this_process import ProcessMark, command, who

_LOG = logging.getLogger("butler_dask.run_claims")

RENEWAL_S = 15.0
"""How often a claim is renewed [s]."""
STALE_S = 60.0
"""Age at which a claim of another machine is taken over [s]; clocks of hosts must agree better than that."""
_PREFIX = "writer of "
_PATIENCE_S = 2.0
"""Longest time a renewal under way is waited for [s]."""


@dataclass(frozen=True, slots=True)
class RunClaim:
    """That a process writes a run.

    Parameters
    ----------
    run : `str`
        RUN collection; it may not exist yet.
    token : `str`
        What tells this claim from any other.
    who : `str`
        User and host.
    command : `str`
        Program and arguments.
    process : `ProcessMark`
        The process.
    since_s, renewed_s : `float`
        When it was taken, and last renewed [s since 1970, UTC].
    """

    run: str
    token: str
    who: str
    command: str
    process: ProcessMark
    since_s: float
    renewed_s: float

    @classmethod
    def own(cls, run: str, now_s: float) -> Self:
        """Return a new one of this process."""
        return cls(run, os.urandom(8).hex(), who(), command(), ProcessMark.own(), now_s, now_s)

    @property
    def text(self) -> str:
        """What is stored."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Self | None:
        """Return what was stored, `None` if that is no claim."""
        try:
            values = json.loads(text)
            return cls(**values | {"process": ProcessMark(**values["process"])})
        except (ValueError, TypeError, KeyError):
            return None

    def is_live(self, now_s: float) -> bool:
        """Return whether its holder still writes.

        Parameters
        ----------
        now_s : `float`
            Time [s since 1970, UTC].
        """
        ended = self.process.has_ended()
        return now_s - self.renewed_s < STALE_S if ended is None else not ended

    def refusal(self) -> RunInUseError:
        """Return the error for whoever else would change the run."""
        return RunInUseError(
            f"Run {self.run!r} is being written by {self}. Nothing was changed; wait until it ends, or write "
            "to another run."
        )

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since_s, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
        return f"{self.who} since {since} UTC (process {self.process.pid}: {self.command})"


class RunClaims:
    """Claims of the runs of a registry.

    Parameters
    ----------
    database : `Database`
        Where they are.
    renewal_s : `float`
        How often they are renewed [s].

    Notes
    -----
    A claim belongs to the thread that took it: another thread of the same program is another writer.
    """

    def __init__(self, database: Database, *, renewal_s: float = RENEWAL_S) -> None:
        self._database, self._renewal_s = database, renewal_s
        self._held: dict[str, tuple[int, RunClaim]] = {}
        self._lock = threading.Lock()
        self._scope = _Scope()
        self._renewal: _Renewal | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the claims that are taken inside, until the end of the outermost block of this thread."""
        self._scope.depth += 1
        try:
            yield
        finally:
            self._scope.depth -= 1
            if not self._scope.depth:
                self._release(list(self._own()))

    def take(self, run: str) -> RunClaim:
        """Claim a run, to be called inside `kept`; once more by the same thread changes nothing.

        Parameters
        ----------
        run : `str`
            RUN collection, also one that is to be made.

        Returns
        -------
        claim : `RunClaim`
            The claim.

        Raises
        ------
        RunInUseError
            If another command, or thread, writes it; it is said who since when.
        """
        if not self._scope.depth:
            raise RuntimeError("A run is claimed inside RunClaims.kept()")
        own = self._own().get(run)
        if own is not None:
            return own
        claim = self._inserted(run)
        with self._lock:
            self._held[run] = threading.get_ident(), claim
            if self._renewal is None:
                self._renewal = _Renewal(self._renew_all, self._renewal_s)
                self._renewal.start()
        return claim

    @repeated
    def _inserted(self, run: str) -> RunClaim:
        with self._database.write() as session:
            # Whoever removes a run holds these as well: it comes wholly before or wholly after.
            row = session.locked_definitions().collections.get(run)
            session.lock_collections([row] if row is not None else [], exclusive=False)
            claim = RunClaim.own(run, _now(session))
            other = self._found(session).get(run)
            if other is not None and other.is_live(claim.since_s):
                raise other.refusal()
            if other is not None:
                _LOG.info("The claim of %r is taken over: %s does not write it any more", run, other)
            session.fetch_sql(
                "INSERT INTO repository (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value RETURNING name",
                (_PREFIX + run, claim.text),
            )
        return claim

    def others(self) -> dict[str, RunClaim]:
        """Return the claims of other commands, and of other threads, that write just now, by run."""
        with self._database.read() as session:
            return self._others(session)

    def refuse_others(self, runs: Iterable[str]) -> None:
        """Raise if others write one of some runs; inside a transaction nobody else claims them to its end.

        Parameters
        ----------
        runs : iterable of `str`
            RUN collections that are about to be changed.

        Raises
        ------
        RunInUseError
            If another command, or thread, writes one; it is said who since when.
        """
        names = dict.fromkeys(runs)
        with self._database.write() as session:
            known = session.definitions.collections
            session.lock_collections([known[n] for n in names if n in known], exclusive=True)
            others = self._others(session)
            for name in names:
                if name in others:
                    raise others[name].refusal()

    def forget(self, session: Session, runs: Iterable[str]) -> None:
        """Drop what dead processes left of claims of runs that are being removed."""
        for run in runs:
            session.fetch_sql("DELETE FROM repository WHERE name = ? RETURNING name", (_PREFIX + run,))

    def confirm(self, session: Session, claim: RunClaim) -> None:
        """Raise unless a claim is still its holder's, in the transaction that needs it.

        Raises
        ------
        RunInUseError
            If it was taken over; what its holder writes now could contradict what another one writes.
        """
        found = self._locked(session, claim.run, "SHARE")
        if found is None or found.token != claim.token:
            by = f" {found} has taken it over." if found is not None else ""
            raise RunInUseError(
                f"Run {claim.run!r} is not this command's any more: nothing was heard of it for "
                f"{STALE_S:g} s.{by} Nothing more is recorded."
            )

    def _own(self) -> dict[str, RunClaim]:
        """Return the claims of this thread."""
        with self._lock:
            me = threading.get_ident()
            return {run: claim for run, (thread, claim) in self._held.items() if thread == me}

    @staticmethod
    def _found(session: Session) -> dict[str, RunClaim]:
        texts = session.fetch_sql("SELECT value FROM repository WHERE name LIKE ?", (f"{_PREFIX}%",))
        claims = [RunClaim.of_text(text) for (text,) in texts]
        return {c.run: c for c in claims if c is not None}

    @staticmethod
    def _locked(session: Session, run: str, lock: str) -> RunClaim | None:
        """Return the claim of a run, which nobody changes until the transaction ends."""
        sql = "SELECT value FROM repository WHERE name = ?" + ("" if session.is_sqlite else f" FOR {lock}")
        rows = session.fetch_sql(sql, (_PREFIX + run,))
        return RunClaim.of_text(rows[0][0]) if rows else None

    def _others(self, session: Session) -> dict[str, RunClaim]:
        now = _now(session)
        tokens = {c.token for c in self._own().values()}
        found = self._found(session).items()
        return {run: c for run, c in found if c.token not in tokens and c.is_live(now)}

    # Renewal

    def _renew_all(self) -> None:
        with self._lock:
            claims = [claim for _, claim in self._held.values()]
        for claim in claims:
            try:
                self._renew(claim)
            except ButlerDaskError as error:  # the database is away: perhaps not so the next time
                _LOG.warning("The claim of run %r is not renewed just now: %s", claim.run, error)

    def _renew(self, claim: RunClaim) -> None:
        with self._database.write() as session:
            found = self._locked(session, claim.run, "UPDATE")
            if found is None or found.token != claim.token:
                return  # taken over, which is told when something is to be recorded
            renewed = replace(claim, renewed_s=_now(session))
            session.fetch_sql(
                "UPDATE repository SET value = ? WHERE name = ? RETURNING name",
                (renewed.text, _PREFIX + claim.run),
            )
        with self._lock:
            if self._held.get(claim.run, (0, None))[1] is claim:
                self._held[claim.run] = self._held[claim.run][0], renewed

    def _release(self, runs: Iterable[str]) -> None:
        renewal = None
        with self._lock:
            released = [self._held.pop(run)[1] for run in runs]
            if not self._held:
                renewal, self._renewal = self._renewal, None
        if renewal is not None:
            renewal.end()
        if not released:
            return
        try:
            self._delete(released)
        except ButlerDaskError as error:
            # The run has ended, well or not; this process ends as well, and its claims with it.
            _LOG.debug("Claims are left over: %s", error)

    @repeated
    def _delete(self, claims: Iterable[RunClaim]) -> None:
        with self._database.write() as session:
            found = self._found(session)
            own = {c.run: c.token for c in claims}
            self.forget(session, [r for r, c in found.items() if own.get(r) == c.token])


class _Renewal(threading.Thread):
    """Calls a function again and again until it is ended."""

    def __init__(self, renew: Callable[[], None], every_s: float) -> None:
        super().__init__(name="butler-run-claims", daemon=True)
        self._renew, self._every_s, self._ended = renew, every_s, threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._renew()

    def end(self) -> None:
        """End it, so that the database can be closed; one that waits for the database is not waited for."""
        self._ended.set()
        self.join(_PATIENCE_S)


class _Scope(threading.local):
    """How many blocks of `RunClaims.kept` a thread is in."""

    depth = 0


def _now(session: Session) -> float:
    """Return the time that all who use the database agree upon [s since 1970, UTC]."""
    if session.is_sqlite:
        return time.time()
    return float(session.fetch_sql("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS float8)")[0][0])
