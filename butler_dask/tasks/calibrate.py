"""calibrate: all sources of one detector, its world coordinates and its photometric zero point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from butler_dask.pipeline import (
    AlgorithmError,
    InputQuantizedConnection,
    OutputQuantizedConnection,
    PipelineTask,
    QuantumContext,
    Struct,
)

from .calibrate_config import CalibrateConfig, CalibrateConnections
from .source_detection import detect, identity

__all__ = ["CalibrateConfig", "CalibrateConnections", "CalibrateTask", "CalibrationError"]

if TYPE_CHECKING:
    from astropy.table import Table

    from butler_dask.imaging.background import BackgroundList
    from butler_dask.imaging.detection import Detections
    from butler_dask.imaging.exposure import Exposure
    from butler_dask.imaging.reference_catalog import ReferenceStars


class CalibrationError(AlgorithmError):
    """An exposure cannot be calibrated: no PSF, no match, no reference flux."""

    @property
    def metadata(self) -> dict[str, Any]:
        """The message alone."""
        return {"reason": str(self)}


class CalibrateTask(PipelineTask):
    """Detect, deblend and measure all sources, and calibrate positions and fluxes.

    Notes
    -----
    With ``doAstrometry`` and ``doPhotoCal`` off no reference catalogue is needed: the first WCS stays, and
    the calibration is the rough zero point of the filter or, without one, 1 nJy per electron.
    """

    ConfigClass: ClassVar[type[Any]] = CalibrateConfig
    _DefaultName: ClassVar[str] = "calibrate"

    def runQuantum(
        self,
        butlerQC: QuantumContext,
        inputRefs: InputQuantizedConnection,
        outputRefs: OutputQuantizedConnection,
    ) -> None:
        """Read the inputs, run, and write; the data ID gives the source identifiers their numbers."""
        inputs = butlerQC.get(inputRefs)
        data_id = butlerQC.dataId
        outputs = self.run(**inputs, exposureId=int(data_id["visit"]), detector=int(data_id["detector"]))
        butlerQC.put(outputs, outputRefs)

    def run(
        self,
        exposure: Exposure,
        background: BackgroundList | None = None,
        icSourceCat: Table | None = None,
        astromRefCat: Sequence[Any] | None = None,
        photoRefCat: Sequence[Any] | None = None,
        *,
        exposureId: int | None = None,
        detector: int | None = None,
    ) -> Struct:
        """Calibrate one detector image.

        Parameters
        ----------
        exposure : `Exposure`
            Of characterizeImage; changed in place.
        background : `BackgroundList`, optional
            Sky subtracted so far; left as it is.
        icSourceCat : `astropy.table.Table`, optional
            Sources of characterizeImage.
        astromRefCat, photoRefCat : sequence, optional
            Shards of the reference catalogues: tables, or handles with a ``get`` method.
        exposureId, detector : `int`, optional
            Numbers that go into source identifiers; the exposure's own when not given.

        Returns
        -------
        result : `Struct`
            ``outputExposure``, ``outputCat``, ``outputBackground``, ``matches``.

        Raises
        ------
        CalibrationError
            If a required calibration fails.
        """
        from butler_dask.imaging.background import BackgroundList
        from butler_dask.imaging.source_catalog import fill_coordinates

        if exposure.psf is None:
            raise CalibrationError("The exposure has no PSF: calibrate takes the output of characterizeImage")
        exposure_id, detector = identity(exposure, exposureId, detector)
        background = background.copy() if background is not None else BackgroundList()
        detections = detect(exposure, exposure.psf, self.config.detection, background, self.log)
        catalog = self._measure(exposure, detections, exposure_id, detector)
        if icSourceCat is not None:
            self._copy_psf_flags(icSourceCat, catalog)
        matches = None
        if self.config.doAstrometry:
            matches = self._fit_astrometry(exposure, catalog, astromRefCat or ())
        fill_coordinates(catalog, exposure)
        if self.config.doPhotoCal:
            self._fit_zero_point(exposure, catalog, photoRefCat or ())
        if exposure.photo_calib is None or not self.config.doPhotoCal:
            self._set_rough_zero_point(exposure)
        self._summarize(exposure, catalog, background)
        self.metadata["nSources"] = len(catalog)
        return Struct(
            outputExposure=exposure, outputCat=catalog, outputBackground=background, matches=matches
        )

    def _measure(self, exposure: Exposure, detections: Detections, exposure_id: int, detector: int) -> Table:
        import numpy as np

        from butler_dask.imaging.aperture_correction import apply_aperture_corrections
        from butler_dask.imaging.deblending import deblend_sources, sources_from_footprints
        from butler_dask.imaging.sky_sources import sky_positions
        from butler_dask.imaging.source_catalog import flux_fields, measure_sources
        from butler_dask.imaging.source_ids import source_ids

        assert exposure.psf is not None
        sky = None
        if self.config.doSkySources:
            config = self.config.skySources
            sky = sky_positions(
                exposure.mask, config.nSources, radius=config.sourceRadius, seed=exposure_id + config.seed
            )
            self.log.getChild("skySources").info(
                "Added %d of %d requested sky sources (%.0f%%)",
                len(sky[0]), config.nSources, 100.0 * len(sky[0]) / max(config.nSources, 1),
            )  # fmt: skip
        sources = sources_from_footprints(detections.positive, sky)
        n = len(sources)
        if self.config.doDeblend:
            log = self.log.getChild("deblend")
            log.info("Deblending %d sources", n)
            result = deblend_sources(
                exposure, detections.positive, sources, exposure.psf,
                max_area=self.config.deblend.maxFootprintArea, max_peaks=self.config.deblend.maxNumberOfPeaks,
            )  # fmt: skip
            ids = source_ids(exposure_id, detector, len(result.sources))
            for row in result.skipped:
                log.warning(
                    "Parent %d: skipping large footprint (area: %d)", ids[row], detections.positive.areas[row]
                )
            sources = result.sources
            log.info(
                "Deblended: of %d sources, %d were deblended, creating %d children, total %d sources",
                n, result.n_deblended, len(sources) - n, len(sources),
            )  # fmt: skip
        self.log.getChild("measurement").info(
            "Measuring %d sources (%d parents, %d children)", len(sources), n, len(sources) - n
        )
        radii = list(self.config.measurement.apertureRadii)
        catalog = measure_sources(
            exposure,
            exposure.psf,
            detections.positive.labels,
            sources,
            source_ids(exposure_id, detector, len(sources)),
            radii=radii,
            weighted_psf_flux=self.config.measurement.usePixelWeights,
            psf_model_error=self.config.measurement.psfModelError,
        )
        if self.config.doApCorr and exposure.ap_corr:
            applied = apply_aperture_corrections(
                catalog, exposure.ap_corr, flux_fields(radii), exposure.shape
            )
            self.log.getChild("applyApCorr").info(
                "Applying aperture corrections to %d instFlux fields", applied
            )
        if not np.isfinite(np.asarray(catalog["base_PsfFlux_instFlux"])).any():
            self.log.warning("No source has a PSF flux")
        return catalog

    def _copy_psf_flags(self, bright: Table, catalog: Table) -> None:
        """Take calib_psf flags over to the sources at the same places."""
        import numpy as np

        from butler_dask.imaging.matching import match_nearest

        whole = np.flatnonzero(np.asarray(catalog["deblend_nChild"]) == 0)
        rows, theirs, _ = match_nearest(
            np.asarray(catalog["base_SdssCentroid_x"])[whole],
            np.asarray(catalog["base_SdssCentroid_y"])[whole],
            np.asarray(bright["base_SdssCentroid_x"]),
            np.asarray(bright["base_SdssCentroid_y"]),
            2.0,
        )
        for name in ("calib_psf_candidate", "calib_psf_used", "calib_psf_reserved"):
            if name in bright.colnames:
                catalog[name][whole[rows]] = np.asarray(bright[name], bool)[theirs]

    def _references(
        self, exposure: Exposure, shards: Sequence[Any], margin_arcsec: float, need_flux: bool
    ) -> ReferenceStars:
        from butler_dask.imaging.reference_catalog import load_reference_stars

        assert exposure.wcs is not None
        epoch = float("nan")
        if exposure.visit_info is not None and exposure.visit_info.begin_tai:
            from astropy.time import Time

            epoch = float(Time(exposure.visit_info.begin_tai, scale="tai").mjd)
        tables = [shard.get() if callable(getattr(shard, "get", None)) else shard for shard in shards]
        try:
            return load_reference_stars(
                tables,
                exposure.wcs,
                exposure.shape,
                band=exposure.filter.band,
                physical_filter=exposure.filter.physical,
                filter_map=dict(self.config.filterMap),
                margin_arcsec=margin_arcsec,
                epoch_mjd=epoch,
                need_flux=need_flux,
            )
        except KeyError as error:
            raise CalibrationError(str(error.args[0])) from error

    def _fail(self, required: bool, message: str, option: str) -> None:
        if required:
            raise CalibrationError(f"{message}; config {option}=False lets the exposure through uncalibrated")
        self.log.warning("%s; going on without", message)

    def _fit_astrometry(self, exposure: Exposure, catalog: Table, shards: Sequence[Any]) -> Table | None:
        """Fit the exposure's WCS; return the matched pairs."""
        import numpy as np

        from butler_dask.imaging.astrometry import AstrometryOptions, MeasuredStars, fit_astrometry

        config = self.config.astrometry
        log = self.log.getChild("astrometry")
        required = self.config.requireAstrometry
        if exposure.wcs is None:
            self._fail(required, "The exposure has no first WCS to match from", "requireAstrometry")
            return None
        stars = self._references(exposure, shards, config.maxOffsetArcsec, need_flux=False)
        log.info("Loaded %d reference objects", len(stars))
        # Saturated stars are the ones catalogues know; their wings place them to a fraction of a pixel.
        rows = _usable(catalog, "base_PsfFlux", config.minSignalToNoise, saturated=True)
        rows = np.flatnonzero(rows & ~np.asarray(catalog["base_SdssCentroid_flag"]))
        error = np.hypot(
            np.asarray(catalog["base_SdssCentroid_xErr"])[rows],
            np.asarray(catalog["base_SdssCentroid_yErr"])[rows],
        ) / np.sqrt(2.0)
        damaged = np.zeros(len(rows), bool)
        for name in _DAMAGED:
            damaged |= np.asarray(catalog[f"base_PixelFlags_flag_{name}"])[rows]
        measured = MeasuredStars(
            np.asarray(catalog["base_SdssCentroid_x"])[rows],
            np.asarray(catalog["base_SdssCentroid_y"])[rows],
            np.where(np.isfinite(error), np.hypot(error, np.where(damaged, 0.3, 0.0)), 0.5),
            np.asarray(catalog["base_PsfFlux_instFlux"])[rows],
        )
        options = AstrometryOptions(
            order=config.order,
            max_offset_arcsec=config.maxOffsetArcsec,
            max_rotation_deg=config.maxRotationDeg,
            match_radius_arcsec=config.matchRadiusArcsec,
            n_sigma=config.nSigmaClip,
            min_matches=config.minMatches,
        )
        fit = fit_astrometry(exposure.wcs, exposure.shape, measured, stars, options)
        if fit is None:
            self._fail(
                required,
                f"No match of {len(rows)} sources with {len(stars)} reference objects within "
                f"{config.maxOffsetArcsec:g} arcsec",
                "requireAstrometry",
            )
            return None
        exposure.wcs = fit.wcs
        log.info(
            "Matched and fit WCS in %d iterations; found %d matches with scatter = %0.3f +- %0.3f arcsec",
            fit.n_iterations,
            int(fit.used.sum()),
            fit.scatter_mean_arcsec,
            fit.scatter_std_arcsec,
        )
        catalog["calib_astrometry_used"][rows[fit.source[fit.used]]] = True
        exposure.summary_stats |= {
            "astromOffsetMean": fit.scatter_mean_arcsec,
            "astromOffsetStd": fit.scatter_std_arcsec,
            "nAstromMatches": float(fit.used.sum()),
            "astromPointingOffset": fit.offset_arcsec,
        }
        return self._match_table(catalog, rows, fit, stars)

    def _match_table(self, catalog: Table, rows: Any, fit: Any, stars: ReferenceStars) -> Table:
        import numpy as np
        from astropy.table import Column, Table

        return Table(
            [
                Column(np.asarray(catalog["id"])[rows[fit.source]], "src_id"),
                Column(stars.id[fit.reference], "ref_id"),
                Column(stars.ra[fit.reference], "ref_coord_ra", unit="rad"),
                Column(stars.dec[fit.reference], "ref_coord_dec", unit="rad"),
                Column(stars.flux[fit.reference], "ref_flux", unit="nJy"),
                Column(np.radians(fit.separation_arcsec / 3600), "distance", unit="rad"),
                Column(fit.used, "used"),
            ]
        )

    def _fit_zero_point(self, exposure: Exposure, catalog: Table, shards: Sequence[Any]) -> None:
        """Fit the exposure's photometric calibration."""
        import numpy as np

        from butler_dask.imaging.matching import match_nearest
        from butler_dask.imaging.photometric_zero_point import fit_zero_point

        config = self.config.photoCal
        log = self.log.getChild("photoCal")
        required = self.config.requirePhotoCal
        if exposure.wcs is None:
            self._fail(required, "Without a WCS no photometric reference can be matched", "requirePhotoCal")
            return
        stars = self._references(exposure, shards, 5.0, need_flux=True)
        ok = _usable(catalog, config.fluxField, config.minSignalToNoise)
        ok &= np.asarray(catalog["base_ClassificationExtendedness_value"]) == 0.0
        rows = np.flatnonzero(ok)
        fluxed = np.flatnonzero(stars.point_like & (stars.flux > 0))
        scale = exposure.wcs.pixel_scale_arcsec()
        reference_x, reference_y = exposure.wcs.sky_to_pixel(
            np.degrees(stars.ra[fluxed]), np.degrees(stars.dec[fluxed])
        )
        sane = np.isfinite(reference_x) & np.isfinite(reference_y)
        fluxed, reference_x, reference_y = fluxed[sane], reference_x[sane], reference_y[sane]
        source, reference, _ = match_nearest(
            np.asarray(catalog["base_SdssCentroid_x"])[rows],
            np.asarray(catalog["base_SdssCentroid_y"])[rows],
            reference_x,
            reference_y,
            config.matchRadiusArcsec / scale,
        )
        rows, reference = rows[source], fluxed[reference]
        fit = fit_zero_point(
            np.asarray(catalog[f"{config.fluxField}_instFlux"])[rows],
            np.asarray(catalog[f"{config.fluxField}_instFluxErr"])[rows],
            stars.flux[reference],
            stars.flux_err[reference],
            floor_mag=config.magErrFloor,
            min_stars=config.minStars,
        )
        if fit is None:
            self._fail(
                required,
                f"Only {len(rows)} stars match the photometric reference, fewer than {config.minStars}",
                "requirePhotoCal",
            )
            return
        exposure.photo_calib = fit.photo_calib
        catalog["calib_photometry_used"][rows[fit.used]] = True
        log.info(
            "Magnitude zero point: %f +/- %f from %d stars (scatter %f mag, %s)",
            fit.zero_point_mag,
            fit.error_mag,
            int(fit.used.sum()),
            fit.scatter_mag,
            stars.flux_column,
        )
        exposure.summary_stats |= {
            "zeroPointError": fit.error_mag,
            "zeroPointScatter": fit.scatter_mag,
            "nPhotoCalStars": float(fit.used.sum()),
        }

    def _set_rough_zero_point(self, exposure: Exposure) -> None:
        import numpy as np

        from butler_dask.imaging.photo_calib import PhotoCalib

        if self.config.doPhotoCal is False and exposure.photo_calib is not None:
            return
        rough = self.config.roughZeroPoint
        for name in (exposure.filter.physical, exposure.filter.band):
            if name in rough:
                seconds = (
                    exposure.visit_info.exposure_time_s if exposure.visit_info is not None else float("nan")
                )
                seconds = seconds if np.isfinite(seconds) and seconds > 0 else 1.0
                exposure.photo_calib = PhotoCalib.from_zero_point(
                    rough[name] + 2.5 * float(np.log10(seconds))
                )
                self.log.info("Rough magnitude zero point: %f", exposure.photo_calib.zero_point_mag)
                return
        exposure.photo_calib = PhotoCalib(1.0)

    def _summarize(self, exposure: Exposure, catalog: Table, background: BackgroundList) -> None:
        """Fill the exposure's summary statistics."""
        import numpy as np

        assert exposure.psf is not None
        assert exposure.photo_calib is not None
        sky = exposure.mask.array == 0
        stats = exposure.summary_stats
        stats["psfSigma"] = exposure.psf.sigma_at(*exposure.psf.center)
        stats["skyBg"] = float(sum(float(np.median(model.levels)) for model in background))
        if sky.any():
            values = exposure.image[::4, ::4][sky[::4, ::4]]
            middle = np.median(values) if values.size else np.nan
            stats["skyNoise"] = (
                float(1.4826 * np.median(np.abs(values - middle))) if values.size else float("nan")
            )
            stats["meanVar"] = float(exposure.variance[sky].mean())
        stats["zeroPoint"] = exposure.photo_calib.zero_point_mag
        stats["nPsfStar"] = float(np.sum(catalog["calib_psf_used"]))
        stats["nSources"] = float(np.sum(catalog["detect_isPrimary"]))
        if exposure.wcs is not None:
            ny, nx = exposure.shape
            stats["pixelScale"] = exposure.wcs.pixel_scale_arcsec((nx - 1) / 2, (ny - 1) / 2)
            ra, dec = exposure.wcs.pixel_to_sky(np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))
            stats["ra"], stats["dec"] = float(ra[0]), float(dec[0])
        # The residual of the sky sources says how flat the background is.
        empty = np.asarray(catalog["sky_source"])
        if empty.any():
            stats["skySourceFlux9"] = (
                float(np.nanmedian(np.asarray(catalog["base_CircularApertureFlux_9_0_instFlux"])[empty]))
                if "base_CircularApertureFlux_9_0_instFlux" in catalog.colnames
                else float("nan")
            )


_DAMAGED = ("saturatedCenter", "interpolatedCenter")
"""Flags of sources whose core is not what fell on the detector."""


def _usable(catalog: Table, field: str, min_signal_to_noise: float, saturated: bool = False) -> Any:
    """Return which sources have a clean centre and enough signal, shape (n,), bool."""
    import numpy as np

    flux = np.asarray(catalog[f"{field}_instFlux"])
    error = np.asarray(catalog[f"{field}_instFluxErr"])
    with np.errstate(invalid="ignore", divide="ignore"):
        usable = flux / error > min_signal_to_noise
    usable &= ~np.asarray(catalog[f"{field}_flag"]) & np.asarray(catalog["detect_isPrimary"])
    forbidden = ("badCenter", "edge") if saturated else (*_DAMAGED, "badCenter", "edge")
    for name in forbidden:
        usable &= ~np.asarray(catalog[f"base_PixelFlags_flag_{name}"])
    return usable
