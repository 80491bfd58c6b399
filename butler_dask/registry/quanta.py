"""Quanta: how each quantum of each run went."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from ..vocabulary.dataset import uuid_column
from ..vocabulary.quantum_record import QUANTUM_COLUMNS, QuantumTable
from . import schema
from .bulk_rows import temporary_rows
from .database import Database, repeated
from .datasets import uuid_list


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

    def outputs_of(self, ids: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return how many datasets quanta wrote beside log and metadata.

        Parameters
        ----------
        ids : `numpy.ndarray`, shape (n, 16), uint8 [1]
            UUIDs of quanta, each once.

        Returns
        -------
        counts : `numpy.ndarray`, shape (n,), int64 [datasets]
            -1 where they were not counted, -2 where there is no record of the quantum.
        """
        counts = np.full(len(ids), -2, dtype=np.int64)
        if not len(ids):
            return counts
        q = schema.quantum.c
        rows = [(key,) for key in uuid_list(ids)]
        with (
            self._database.read() as session,
            temporary_rows(session, {"id": sa.LargeBinary()}, rows) as t,
        ):
            statement = sa.select(q.quantum_id, q.n_outputs).where(q.quantum_id == t.c.id)
            found = session.fetch(statement)
        if found:
            known, n_outputs = zip(*found, strict=True)
            keys = np.ascontiguousarray(ids).view("V16").reshape(-1)
            order = np.argsort(keys)
            places = np.searchsorted(keys[order], uuid_column(known).view("V16").reshape(-1))
            counts[order[places]] = n_outputs
        return counts

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
