"""Reference catalogues: any table of positions and fluxes, sharded by htm7, as calibrate looks them up.

A catalogue comes from outside (columns of the reference-catalogue schema), or is a calibrated source
catalogue of one exposure that serves as reference for the others where no external one covers the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from lsst.sphgeom import LonLat, UnitVector3d
from numpy.typing import NDArray

from ..errors import DatasetFileError, RawIngestError
from ..vocabulary.collection import CollectionType
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionUniverse

if TYPE_CHECKING:
    from astropy.table import Table

    from ..butler.butler import Butler


def read_catalog(path: str) -> Table:
    """Read a table file of any format that astropy knows.

    Parameters
    ----------
    path : `str`
        FITS, ECSV, VOTable ... file.

    Raises
    ------
    DatasetFileError
        If it is not a readable table.
    """
    try:
        return Table.read(path)
    except Exception as error:  # readers of every format raise their own kinds
        raise DatasetFileError(f"Cannot read {path!r} as a table: {error}") from error


def reference_of_sources(sources: Table, band: str, zero_point_njy: float = 1.0) -> Table:
    """Make a reference catalogue of a calibrated source catalogue.

    Parameters
    ----------
    sources : `astropy.table.Table`
        Source catalogue with ``coord_ra``, ``coord_dec`` [rad] and base_PsfFlux columns.
    band : `str`
        Prefix of the flux columns made.
    zero_point_njy : `float`
        nJy per unit of instrumental flux.

    Returns
    -------
    reference : `astropy.table.Table`
        Primary, unflagged point sources with a signal-to-noise ratio above 10.
    """
    flux = np.asarray(sources["base_PsfFlux_instFlux"], dtype=np.float64)
    err = np.asarray(sources["base_PsfFlux_instFluxErr"], dtype=np.float64)
    good = np.isfinite(flux) & np.isfinite(err) & (flux > 10.0 * err)
    for flag in ("base_PsfFlux_flag", "base_PixelFlags_flag_saturatedCenter", "sky_source"):
        if flag in sources.colnames:
            good &= ~np.asarray(sources[flag], dtype=bool)
    if "deblend_nChild" in sources.colnames:
        good &= np.asarray(sources["deblend_nChild"]) == 0
    good &= np.isfinite(np.asarray(sources["coord_ra"], dtype=np.float64))
    out = Table()
    out["id"] = np.asarray(sources["id"])[good]
    for name in ("coord_ra", "coord_dec"):
        out[name] = np.asarray(sources[name], dtype=np.float64)[good]
        out[name].unit = "rad"
    # Centroid error of a star, from its signal-to-noise ratio (King 1983, PASP 95, 163): sigma / SNR; the
    # seeing is not in the table, so the usual 1 arcsec FWHM stands for it.
    position_err = np.radians(1.0 / 2.355 / 3600.0) * (err / np.where(flux == 0, 1, flux))[good]
    out["coord_raErr"], out["coord_decErr"] = position_err, position_err
    out[f"{band}_flux"] = flux[good] * zero_point_njy
    out[f"{band}_fluxErr"] = err[good] * zero_point_njy
    return out


def htm7_of(ra_rad: NDArray[np.float64], dec_rad: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the trixel each position is in.

    Parameters
    ----------
    ra_rad, dec_rad : `numpy.ndarray`, shape (n,), float64
        ICRS [rad].

    Returns
    -------
    trixels : `numpy.ndarray`, shape (n,), int64
        Index at level 7 of the Hierarchical Triangular Mesh (Kunszt, Szalay & Thakar 2001,
        doi:10.1007/10849171_83).
    """
    pixelization = DimensionUniverse().commonSkyPix.pixelization
    return np.array(
        [
            pixelization.index(UnitVector3d(LonLat.fromRadians(float(a), float(d))))
            for a, d in zip(ra_rad, dec_rad, strict=True)
        ],
        dtype=np.int64,
    )


def ingest_reference_catalog(
    butler: Butler,
    catalog: Table,
    *,
    dataset_type: str = "reference_catalog",
    run: str = "refcats",
    band: str | None = None,
) -> int:
    """Put a catalogue as datasets of one htm7 trixel each.

    Parameters
    ----------
    butler : `Butler`
        Writeable butler.
    catalog : `astropy.table.Table`
        Reference catalogue, or a source catalogue if ``band`` is given.
    dataset_type : `str`
        Dataset type, registered if new.
    run : `str`
        RUN collection, registered if new.
    band : `str`, optional
        Turn a source catalogue into a reference catalogue with this band's fluxes.

    Returns
    -------
    shards : `int`
        Number of datasets put.

    Raises
    ------
    RawIngestError
        If columns are missing or no row is left.
    """
    if band is not None and f"{band}_flux" not in catalog.colnames:
        catalog = reference_of_sources(catalog, band)
    missing = [n for n in ("id", "coord_ra", "coord_dec") if n not in catalog.colnames]
    if missing or not any(n.endswith("_flux") for n in catalog.colnames):
        wanted = ", ".join(missing) or "a <band>_flux column (or name --band for a source catalogue)"
        raise RawIngestError(f"The catalogue lacks {wanted}; it has {', '.join(catalog.colnames)}.")
    if not len(catalog):
        raise RawIngestError("The catalogue has no usable row.")
    ra = np.asarray(catalog["coord_ra"].to("rad") if catalog["coord_ra"].unit else catalog["coord_ra"])
    dec = np.asarray(catalog["coord_dec"].to("rad") if catalog["coord_dec"].unit else catalog["coord_dec"])
    shards = htm7_of(ra, dec)
    kind = DatasetType(dataset_type, ["htm7"], "SimpleCatalog")
    butler.registry.registerDatasetType(kind)
    butler.collections.register(run, CollectionType.RUN)
    indices = np.unique(shards)
    with butler.transaction():
        for index in indices:
            butler.put(catalog[shards == index], kind, {"htm7": int(index)}, run=run)
    return len(indices)
