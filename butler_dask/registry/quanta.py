"""Quanta: how each quantum of each run went."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ..vocabulary.quantum_record import QUANTUM_COLUMNS, QuantumTable
from . import schema
from .database import Database, repeated


class Quanta:
    """Quantum records of a registry.

    Parameters
    ----------
    database : `Database`
        Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeated
    def record(self, quanta: QuantumTable) -> None:
        """Insert quantum records; one recorded before is replaced and its attempts counted on."""
        if not len(quanta):
            return
        with self._database.write() as session:
            definitions = session.definitions
            ids = {name: definitions.collection(name).id for name in set(quanta.columns["run"])}
            columns = dict(quanta.columns)
            columns["run"] = [ids[name] for name in quanta.columns["run"]]
            names = ["run_id" if n == "run" else n for n in QUANTUM_COLUMNS]
            quote = session.quote
            mark = "?" if session.is_sqlite else "%s"
            changes = ", ".join(f"{quote(n)} = excluded.{quote(n)}" for n in names[1:] if n != "attempt")
            sql = (
                f"INSERT INTO quantum ({', '.join(map(quote, names))}) "
                f"VALUES ({', '.join([mark] * len(names))}) "
                f"ON CONFLICT (quantum_id) DO UPDATE SET {changes}, "
                # The same attempt recorded twice stays one; a later one counts on.
                "attempt = CASE WHEN quantum.start_ns = excluded.start_ns THEN quantum.attempt "
                "WHEN excluded.attempt > quantum.attempt THEN excluded.attempt ELSE quantum.attempt + 1 END"
            )
            session.execute_many(sql, list(zip(*columns.values(), strict=True)))

    def query(self, run: str | Sequence[str]) -> QuantumTable:
        """Return the quantum records of one or several RUN collections, in the order they started."""
        q, c = schema.quantum.c, schema.collection.c
        with self._database.read() as session:
            definitions = session.definitions
            runs = [run] if isinstance(run, str) else run
            ids = [definitions.collection(name).id for name in runs]
            columns = [c.name if n == "run" else q[n] for n in QUANTUM_COLUMNS]
            rows = session.fetch(
                sa.select(*columns)
                .where(q.run_id == c.id, q.run_id.in_(ids))
                .order_by(q.start_ns, q.quantum_id),
            )
        return QuantumTable.from_rows([(bytes(r[0]), *r[1:]) for r in rows])
