"""ChainHistory: every change of every chain: when, who, by which command, what it held before and after.

A chain is what users mean by "my results", and ``pipetask run --replace-run`` or ``--rebase`` takes members
out of it that nothing else names; the history says which, and gives them back. Entries are by name, so they
outlive the chain itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ..vocabulary.chain_change import ChainChange
from ..vocabulary.timespan import tai_now_ns
from . import schema
from .bulk_rows import insert_rows
from .session import Session
from .this_process import command, who


class ChainHistory:
    """Changes of the chains of a registry."""

    def record(
        self, session: Session, chain: str, mode: str, before: Sequence[str], after: Sequence[str]
    ) -> None:
        """Record a change, in the transaction that makes it."""
        # A comma is in no collection name.
        values = (chain, tai_now_ns(), who(), command(), mode, ",".join(before), ",".join(after))
        columns = ("parent", "changed_ns", "who", "command", "mode", "before", "after")
        insert_rows(session, schema.chain_history, columns, [values])

    def query(self, session: Session, chain: str) -> list[ChainChange]:
        """Return the changes of a chain, oldest first."""
        h = schema.chain_history.c
        columns = (h.parent, h.changed_ns, h.who, h.command, h.mode, h.before, h.after)
        rows = session.fetch(sa.select(*columns).where(h.parent == chain).order_by(h.id))
        return [
            ChainChange(name, ns, who, command, mode, _members(before), _members(after))
            for name, ns, who, command, mode, before, after in rows
        ]


def _members(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
