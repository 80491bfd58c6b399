"""DatasetTypes: register, list and remove dataset types, and make the tables their datasets need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from ..errors import (
    ConflictingDefinitionError,
    DatasetTypeError,
    MissingDatasetTypeError,
    OrphanedRecordError,
)
from ..vocabulary.collection import NamesExpression, split_patterns
from ..vocabulary.dataset_type import DatasetType, check_dataset_type_name
from ..vocabulary.dimensions import DimensionGroup
from . import schema
from .database import Database, repeated
from .session import Session


class DatasetTypes:
    """Dataset types of a registry.

    Parameters
    ----------
    database : `Database`
        Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeated
    def register(self, dataset_types: Sequence[DatasetType]) -> list[bool]:
        """Register dataset types, all or none; return for each whether it is new."""
        with self._database.read() as session:
            missing = self._missing(session, dataset_types)
        if not missing:
            return [False] * len(dataset_types)
        with self._database.write() as session:
            session.locked_definitions()
            missing = self._missing(session, dataset_types)
            for dataset_type in missing.values():
                group_id = self._group_id(session, dataset_type.dimensions)
                session.execute(
                    schema.dataset_type.insert().values(
                        name=dataset_type.name,
                        group_id=group_id,
                        storage_class=dataset_type.storageClass_name,
                        is_calibration=dataset_type.isCalibration(),
                    )
                )
            session.definitions_changed()
        new = set(missing)
        out = []
        for dataset_type in dataset_types:
            out.append(dataset_type.name in new)
            new.discard(dataset_type.name)
        return out

    def _missing(self, session: Session, dataset_types: Iterable[DatasetType]) -> dict[str, DatasetType]:
        known = session.definitions.dataset_types
        missing: dict[str, DatasetType] = {}
        for dataset_type in dataset_types:
            if dataset_type.isComponent():
                raise DatasetTypeError(
                    f"{dataset_type.name!r} names a component; register the dataset type it is a part of."
                )
            registered = known[dataset_type.name].definition if dataset_type.name in known else None
            registered = registered or missing.get(dataset_type.name)
            if registered is None:
                missing[dataset_type.name] = dataset_type
            elif registered != dataset_type:
                raise ConflictingDefinitionError(
                    f"Dataset type {dataset_type.name!r} is registered as {registered!r}, "
                    f"which differs from {dataset_type!r}."
                )
        return missing

    def _group_id(self, session: Session, dimensions: DimensionGroup) -> int:
        g = schema.dimension_group.c
        required = ",".join(dimensions.required)
        found = session.fetch(sa.select(g.id).where(g.required == required))
        if found:
            return int(found[0][0])
        result = session.execute(schema.dimension_group.insert().values(required=required))
        key = result.inserted_primary_key
        assert key is not None
        group_id = int(key[0])
        tables = schema.group_tables(group_id, dimensions)
        for table in (tables.datasets, tables.tags, tables.calibs):
            table.create(session.connection, checkfirst=False)
        return group_id

    def get(self, name: str) -> DatasetType:
        """Return a dataset type; ``name.component`` gives that of a component.

        Raises
        ------
        MissingDatasetTypeError
            If there is none; the nearest match is named.
        """
        check_dataset_type_name(name)
        with self._database.read() as session:
            row = session.definitions.dataset_type(name)
        component = name.partition(".")[2]
        return row.definition.makeComponentDatasetType(component) if component else row.definition

    def query(
        self,
        expression: NamesExpression | DatasetType | Iterable[DatasetType] = ...,
        missing: list[str] | None = None,
    ) -> list[DatasetType]:
        """Return dataset types by name.

        Parameters
        ----------
        expression : `str`, `re.Pattern`, ``...`` or iterable of them
            Names, globs and regular expressions; ``...`` for all.
        missing : `list` [`str`], optional
            Plain names that are not registered are appended to it instead of raising.
        """
        with self._database.read() as session:
            definitions = session.definitions
        known = definitions.dataset_types
        found: dict[str, DatasetType] = {}
        for text in split_patterns(_named(expression)):
            if isinstance(text, re.Pattern):
                found.update((n, t.definition) for n, t in known.items() if text.fullmatch(n))
            else:
                if missing is None:
                    check_dataset_type_name(text)
                try:
                    row = definitions.dataset_type(text)
                except MissingDatasetTypeError:
                    if missing is None:
                        raise
                    missing.append(text)
                else:
                    component = text.partition(".")[2]
                    kind = row.definition
                    found[text] = kind.makeComponentDatasetType(component) if component else kind
        return [found[n] for n in sorted(found)]

    @repeated
    def remove(self, name: str) -> None:
        """Remove a dataset type without datasets.

        Raises
        ------
        OrphanedRecordError
            If it has datasets.
        """
        if "." in name:
            raise DatasetTypeError(f"{name!r} names a component; remove the dataset type it is a part of.")
        with self._database.write() as session:
            row = session.locked_definitions().dataset_type(name)
            d = schema.dataset.c
            # Its own table is clustered by type: the first row says enough.
            table = row.tables.datasets
            statement = sa.select(table.c.dataset_id).where(table.c.dataset_type_id == row.id).limit(1)
            if session.fetch(statement):
                runs = session.fetch(
                    sa.select(schema.collection.c.name)
                    .where(schema.collection.c.id == d.run_id, d.dataset_type_id == row.id)
                    .distinct()
                    .limit(5),
                )
                raise OrphanedRecordError(
                    f"Dataset type {name!r} has datasets, in {', '.join(repr(r[0]) for r in runs)}; "
                    "remove these first."
                )
            s = schema.collection_summary
            session.execute(s.delete().where(s.c.dataset_type_id == row.id))
            session.execute(schema.dataset_type.delete().where(schema.dataset_type.c.id == row.id))
            session.definitions_changed()


def _named(expression: NamesExpression | DatasetType | Iterable[DatasetType]) -> Any:
    """Return an expression with dataset types replaced by their names."""
    if isinstance(expression, DatasetType):
        return expression.name
    if isinstance(expression, Iterable) and not isinstance(expression, str):
        return [e.name if isinstance(e, DatasetType) else e for e in expression]
    return expression
