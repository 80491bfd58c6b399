"""Reference catalogues: what is known of stars beforehand, brought to one exposure's epoch and filter.

Columns and units are those of Rubin's ``LoadReferenceObjectsTask``; proper motions move stars linearly,
without parallax, which for any star but the nearest few is less than the errors of a ground-based fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import did_you_mean
from .sky_wcs import SkyWcs

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True, slots=True)
class ReferenceStars:
    """Reference objects on and around an exposure.

    Parameters
    ----------
    id : `numpy.ndarray`, shape (n,), int64 [1]
        Their identifiers (row numbers if the catalogue has none).
    ra, dec, position_err : `numpy.ndarray`, shape (n,), float64 [rad]
        Position at the exposure's epoch, and its error along one axis.
    flux, flux_err : `numpy.ndarray`, shape (n,), float64 [nJy]
        In the exposure's filter; NaN where unknown.
    point_like : `numpy.ndarray`, shape (n,), bool [1]
        Not known to be resolved or variable.
    flux_column : `str`
        Where the flux came from; empty if there was no flux.
    """

    id: NDArray[np.int64]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    position_err: NDArray[np.float64]
    flux: NDArray[np.float64]
    flux_err: NDArray[np.float64]
    point_like: NDArray[np.bool_]
    flux_column: str

    def __len__(self) -> int:
        return len(self.ra)


def flux_column(
    columns: Sequence[str], band: str, physical_filter: str, filter_map: Mapping[str, str]
) -> str:
    """Return the name of the flux column for a filter.

    Parameters
    ----------
    columns : sequence of `str`
        Columns of the catalogue.
    band, physical_filter : `str`
        Of the exposure.
    filter_map : mapping of `str` to `str`
        Physical filter or band to the catalogue's name of a filter, tried first.

    Raises
    ------
    KeyError
        If there is no such column; the nearest name is told.
    """
    names = [filter_map[f] for f in (physical_filter, band) if f in filter_map] + [physical_filter, band]
    for name in names:
        for column in (f"{name}_flux", name):
            if name and column in columns:
                return column
    wanted = f"{names[0] or 'band'}_flux"
    fluxes = [c for c in columns if c.endswith("_flux")]
    raise KeyError(
        f"No flux column for filter {physical_filter!r} (band {band!r}) in a reference catalogue with "
        f"{sorted(fluxes)}.{did_you_mean(wanted, fluxes)} Say which one to use in the config field filterMap."
    )


def _in_unit(table: Table, column: str, unit: str) -> NDArray[np.float64]:
    """Return a column in a unit; without one it is taken to be in that unit already."""
    values = table[column]
    data = np.ma.filled(np.ma.asarray(values, np.float64), np.nan)
    if getattr(values, "unit", None) is not None:
        import astropy.units

        data = data * values.unit.to(astropy.units.Unit(unit))
    result: NDArray[np.float64] = np.asarray(data, np.float64)
    return result


def load_reference_stars(
    tables: Sequence[Table],
    wcs: SkyWcs,
    shape: tuple[int, int],
    *,
    band: str = "",
    physical_filter: str = "",
    filter_map: Mapping[str, str] | None = None,
    margin_arcsec: float = 30.0,
    epoch_mjd: float = float("nan"),
    need_flux: bool = True,
) -> ReferenceStars:
    """Gather reference objects near an exposure.

    Parameters
    ----------
    tables : sequence of `astropy.table.Table`
        Shards: id, coord_ra, coord_dec (rad where no unit is given), coord_raErr, coord_decErr,
        <filter>_flux, <filter>_fluxErr (nJy), and if there are, pm_ra, pm_dec (mas/yr; pm_ra includes
        cos dec) with epoch (MJD), is_variable, resolved.
    wcs : `SkyWcs`
        Where the exposure is thought to lie.
    shape : `tuple` [`int`, `int`]
        (ny, nx).
    band, physical_filter, filter_map
        See `flux_column`.
    margin_arcsec : `float`
        Objects are kept this far outside [arcsec].
    epoch_mjd : `float`
        Of the exposure; NaN leaves proper motions aside.
    need_flux : `bool`
        Whether a missing flux column is an error.

    Returns
    -------
    stars : `ReferenceStars`

    Raises
    ------
    KeyError
        If a flux is needed and not there.
    """
    ny, nx = shape
    center_ra, center_dec = (np.radians(v) for v in wcs.pixel_to_sky((nx - 1) / 2, (ny - 1) / 2))
    scale = wcs.pixel_scale_arcsec((nx - 1) / 2, (ny - 1) / 2)
    radius = np.radians((0.5 * np.hypot(nx, ny) * scale + np.sqrt(2) * margin_arcsec) / 3600)
    center = _unit_vectors(np.atleast_1d(center_ra), np.atleast_1d(center_dec))[0]
    parts: list[ReferenceStars] = []
    for table in tables:
        if len(table) == 0:
            continue
        ra, dec = _in_unit(table, "coord_ra", "rad"), _in_unit(table, "coord_dec", "rad")
        near = _unit_vectors(ra, dec) @ center > np.cos(radius)
        if not near.any():
            continue
        try:
            column = flux_column(table.colnames, band, physical_filter, filter_map or {})
        except KeyError:
            if need_flux:
                raise
            column = ""
        parts.append(_stars_of(table[near], column, epoch_mjd))
    return _joined(parts)


def _stars_of(table: Table, column: str, epoch_mjd: float) -> ReferenceStars:
    """Return all objects of one shard, moved to an epoch; without a flux column, any flux serves."""
    names, n = table.colnames, len(table)
    ra, dec = _in_unit(table, "coord_ra", "rad"), _in_unit(table, "coord_dec", "rad")
    flux_err = np.zeros(n)
    if column:
        flux = _in_unit(table, column, "nJy")
        if f"{column}Err" in names:
            flux_err = _in_unit(table, f"{column}Err", "nJy")
    else:
        fluxes = [c for c in names if c.endswith("_flux")]
        flux = _in_unit(table, fluxes[0], "nJy") if fluxes else np.ones(n)
    error = np.zeros(n)
    if "coord_raErr" in names and "coord_decErr" in names:
        ra_err, dec_err = _in_unit(table, "coord_raErr", "rad"), _in_unit(table, "coord_decErr", "rad")
        error = np.nan_to_num(np.sqrt(0.5 * (ra_err**2 + dec_err**2)))
    if {"pm_ra", "pm_dec", "epoch"} <= set(names) and np.isfinite(epoch_mjd):
        years = (epoch_mjd - np.ma.filled(np.ma.asarray(table["epoch"], np.float64), np.nan)) / 365.25
        moved_ra = np.nan_to_num(_in_unit(table, "pm_ra", "mas/yr") * years) / 206264806.247
        moved_dec = np.nan_to_num(_in_unit(table, "pm_dec", "mas/yr") * years) / 206264806.247
        ra, dec = ra + moved_ra / np.cos(dec), dec + moved_dec
    point_like = np.ones(n, bool)
    for name in ("resolved", "is_variable", "is_resolved"):
        if name in names:
            point_like &= ~np.ma.filled(np.ma.asarray(table[name]), 0).astype(bool)
    ids = np.asarray(table["id"], np.int64) if "id" in names else np.arange(n)
    return ReferenceStars(ids.astype(np.int64), ra, dec, error, flux, flux_err, point_like, column)


def _joined(parts: Sequence[ReferenceStars]) -> ReferenceStars:
    """Join the objects of several shards; an object that two of them list is taken once."""
    if not parts:
        empty = np.zeros(0)
        return ReferenceStars(np.zeros(0, np.int64), empty, empty, empty, empty, empty, np.zeros(0, bool), "")
    column = next((part.flux_column for part in reversed(parts) if part.flux_column), "")
    names = [f.name for f in fields(ReferenceStars) if f.name != "flux_column"]
    every = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    _, first = np.unique(np.column_stack([every["ra"], every["dec"]]), axis=0, return_index=True)
    first.sort()
    return ReferenceStars(**{name: values[first] for name, values in every.items()}, flux_column=column)


def _unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
