"""Sky overlaps of a query: key pairs of records whose regions overlap, found for what other conditions leave.

The database gives candidates by level 7 pixels, `butler_dask.registry.regions` makes the exact test.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa

from ..vocabulary.dimensions import DimensionElement, DimensionGroup, DimensionUniverse
from .bulk_rows import temporary_rows
from .dimension_records import column_name, key_columns
from .joined_tables import JoinedTables
from .regions import overlapping, overlapping_pairs
from .schema import element_tables, overlap_tables
from .session import Session

if TYPE_CHECKING:
    from lsst.sphgeom import Region

_PIXEL_RANGES = 64
"""Pixel ranges a region's envelope is given as; the exact test corrects for coarse ones."""


class ElementQuery(Protocol):
    """What a side needs of the query over its own dimensions."""

    unique: bool
    tables: JoinedTables


class OverlapSide:
    """One side of an overlap join: the records of an element that the query's other conditions leave.

    Parameters
    ----------
    session : `Session`
        From `Database.read`.
    stack : `contextlib.ExitStack`
        Holds temporary tables until the rows are read.
    element : `DimensionElement`
        Whose records.
    query : `ElementQuery`
        The query's part about this side only.
    restricted : `bool`
        Whether that part has conditions.
    """

    def __init__(
        self,
        session: Session,
        stack: ExitStack,
        element: DimensionElement,
        query: ElementQuery,
        restricted: bool,
    ) -> None:
        self._session, self._stack = session, stack
        self._element, self._query, self.restricted = element, query, restricted

    def _keys(self) -> list[Any]:
        table = self._query.tables.element(self._element.name)
        return [table.c[column_name(self._element, n)].label(n) for n in self._element.required]

    def records(self, near: OverlapSide | None) -> list[tuple[Any, ...]]:
        """Return keys and region of each record, only those near another side's if one is given."""
        table = self._query.tables.element(self._element.name)
        keys = self._keys()
        statement = self._query.tables.statement([*keys, table.c.region]).where(table.c.region.is_not(None))
        if not self._query.unique:
            statement = statement.distinct()
        if near is not None:
            pixels = self._stack.enter_context(
                temporary_rows(self._session, {"htm7": sa.BigInteger()}, near.pixels())
            )
            overlaps = overlap_tables[self._element.name]
            close = (
                sa.select(*(overlaps.c[n] for n in self._element.required))
                .where(overlaps.c.htm7 == pixels.c.htm7)
                .distinct()
                .subquery()
            )
            statement = statement.where(
                *(k.element == close.c[n] for k, n in zip(keys, self._element.required, strict=True))
            )
        rows = self._session.fetch(statement)
        return [(*r[:-1], bytes(r[-1])) for r in rows]

    def pixels(self) -> list[tuple[int]]:
        """Return the level 7 pixels that may overlap any of the records."""
        own = self._query.tables.statement(self._keys()).distinct().subquery()
        overlaps = overlap_tables[self._element.name]
        statement = (
            sa.select(overlaps.c.htm7)
            .where(*(overlaps.c[n] == own.c[n] for n in self._element.required))
            .distinct()
        )
        return [(r[0],) for r in self._session.fetch(statement)]


def pairs_of_sides(one: OverlapSide, two: OverlapSide) -> list[tuple[Any, ...]]:
    """Return the keys of both sides for each pair of overlapping records."""
    if two.restricted and not one.restricted:
        second = two.records(None)
        first = one.records(two)
    else:
        first = one.records(None)
        second = two.records(one if one.restricted else None)
    i, j = overlapping_pairs([r[-1] for r in first], [r[-1] for r in second])
    a, b = [r[:-1] for r in first], [r[:-1] for r in second]
    return [a[p] + b[q] for p, q in zip(i.tolist(), j.tolist(), strict=True)]


def pixels_of_records(
    records: Sequence[tuple[Any, ...]], skypix: str, wanted: int | None
) -> list[tuple[Any, ...]]:
    """Return the keys of records with each pixel of a sky pixelization they overlap.

    Parameters
    ----------
    records : sequence of `tuple`
        Keys, and last the encoded region.
    skypix : `str`
        Sky pixel dimension.
    wanted : `int` or `None`
        Only this pixel.
    """
    pixelization = DimensionUniverse()[skypix].pixelization
    candidates: list[tuple[int, int]] = []
    for i, row in enumerate(records):
        for begin, end in pixelization.envelope(_decode(row[-1])):
            if wanted is None:
                candidates.extend((i, p) for p in range(begin, end))
            elif begin <= wanted < end:
                candidates.append((i, wanted))
    pixels = sorted({p for _, p in candidates})
    index = {p: k for k, p in enumerate(pixels)}
    encoded = [pixelization.pixel(p).encode() for p in pixels]
    first, second = overlapping_pairs([r[-1] for r in records], encoded)
    hits = set(zip(first.tolist(), second.tolist(), strict=True))
    return [(*records[k][:-1], p) for k, p in candidates if (k, index[p]) in hits]


def records_within(session: Session, element_name: str, region: Region) -> list[tuple[Any, ...]]:
    """Return the keys of an element's records that overlap a region."""
    spec = DimensionUniverse()[element_name]
    table, overlaps, keys = (
        element_tables[element_name],
        overlap_tables[element_name],
        key_columns(element_name),
    )
    ranges = spec.universe.commonSkyPix.pixelization.envelope(region, _PIXEL_RANGES)
    # Nothing is near an empty region.
    near = sa.or_(sa.false(), *(sa.and_(overlaps.c.htm7 >= b, overlaps.c.htm7 < e) for b, e in ranges))
    candidates = sa.select(*(overlaps.c[n] for n in spec.required)).where(near).distinct().subquery()
    rows = session.fetch(
        sa.select(*keys, table.c.region).where(
            *(k == candidates.c[n] for k, n in zip(keys, spec.required, strict=True))
        ),
    )
    hits = overlapping([bytes(r[-1]) for r in rows], region)
    return [tuple(r[:-1]) for r, hit in zip(rows, hits.tolist(), strict=True) if hit]


def pixels_within(skypix: str, region: Region) -> list[int]:
    """Return the pixels of a sky pixelization that overlap a region."""
    pixelization = DimensionUniverse()[skypix].pixelization
    pixels = [p for b, e in pixelization.envelope(region) for p in range(b, e)]
    hits = overlapping([pixelization.pixel(p).encode() for p in pixels], region)
    return [p for p, hit in zip(pixels, hits.tolist(), strict=True) if hit]


def side_dimensions(group: DimensionGroup, element_name: str, other: str) -> DimensionGroup:
    """Return the dimensions of a query that belong to one side of an overlap only."""
    universe = DimensionUniverse()
    own, others = universe[element_name].dimensions, universe[other].dimensions
    names = [
        n
        for n in group.names
        if n in own
        or (universe[n].skypix_level is None and not _touches(n, others) and not _is_foreign(n, own))
    ]
    return universe.conform(names)


def is_covered(pair: tuple[str, str], explicit: Sequence[tuple[str, str]]) -> bool:
    """Return whether the condition joins the families (observations, a skymap) of a pair already."""
    families = {frozenset(map(_family, p)) for p in explicit}
    return frozenset(map(_family, pair)) in families


def are_joined(pair: tuple[str, str], groups: Sequence[DimensionGroup]) -> bool:
    """Return whether data IDs given hold both sides of a pair already, overlapping or not."""
    universe = DimensionUniverse()
    both = {*universe[pair[0]].required, *universe[pair[1]].required}
    return any(both <= set(group.names) for group in groups)


def _touches(name: str, group: DimensionGroup) -> bool:
    # Whether a dimension depends on the other side's: physical_filter does on neither tract nor patch.
    universe = DimensionUniverse()
    own = set(universe.conform([name]).governors)
    return bool(own & set(group.governors)) or name in group.names


def _is_foreign(name: str, group: DimensionGroup) -> bool:
    # Dimensions of no governor (band) stay with the side that implies them.
    governors = DimensionUniverse().conform([name]).governors
    if governors:
        return not set(governors) <= set(group.governors)
    return "instrument" not in group.governors


def _family(element_name: str) -> str:
    if element_name in ("patch", "tract"):
        return "skymap"
    return "observation" if element_name.startswith("visit") else element_name


def _decode(encoded: bytes) -> Any:
    from lsst.sphgeom import Region

    return Region.decode(bytes(encoded))
