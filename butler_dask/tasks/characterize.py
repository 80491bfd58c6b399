"""characterizeImage: cosmic rays, sky, bright sources, PSF and aperture corrections of one detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from butler_dask.pipeline import (
    InputQuantizedConnection,
    NoWorkFound,
    OutputQuantizedConnection,
    PipelineTask,
    QuantumContext,
    Struct,
)

from .characterize_config import CharacterizeImageConfig, CharacterizeImageConnections
from .source_detection import (
    detect,
    identity,
    subtract_sky,
)

__all__ = ["CharacterizeImageConfig", "CharacterizeImageConnections", "CharacterizeImageTask"]

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import Table
    from numpy.typing import NDArray

    from butler_dask.imaging.detection import Detections
    from butler_dask.imaging.exposure import Exposure
    from butler_dask.imaging.stamps import SourceList


class CharacterizeImageTask(PipelineTask):
    """Measure the PSF of an exposure and subtract its sky.

    Notes
    -----
    The PSF is needed to find cosmic rays and sources, and they are needed to measure it; ``psfIterations``
    rounds begin with a Gaussian guess. With too few stars for a model a Gaussian of the stars' width is
    kept; with none, the guess, and a warning.
    """

    ConfigClass: ClassVar[type[Any]] = CharacterizeImageConfig
    _DefaultName: ClassVar[str] = "characterizeImage"

    def runQuantum(
        self,
        butlerQC: QuantumContext,
        inputRefs: InputQuantizedConnection,
        outputRefs: OutputQuantizedConnection,
    ) -> None:
        """Read the exposure, run, and write; the data ID gives the source identifiers their numbers."""
        inputs = butlerQC.get(inputRefs)
        data_id = butlerQC.dataId
        outputs = self.run(**inputs, exposureId=int(data_id["visit"]), detector=int(data_id["detector"]))
        butlerQC.put(outputs, outputRefs)

    def run(
        self, exposure: Exposure, *, exposureId: int | None = None, detector: int | None = None
    ) -> Struct:
        """Characterize one detector image.

        Parameters
        ----------
        exposure : `Exposure`
            After isr, in electrons; changed in place.
        exposureId, detector : `int`, optional
            Numbers that go into source identifiers; the exposure's own when not given.

        Returns
        -------
        result : `Struct`
            ``characterized`` (`Exposure`), ``sourceCat`` (`astropy.table.Table`), ``backgroundModel``
            (`BackgroundList`).

        Raises
        ------
        NoWorkFound
            If no pixel of the exposure is usable.
        """
        import numpy as np

        from butler_dask.imaging.background import BackgroundList
        from butler_dask.imaging.psf import Psf

        self._require_pixels(exposure)
        exposure_id, detector = identity(exposure, exposureId, detector)
        background = BackgroundList()
        subtract_sky(exposure, self.config.background, background)
        guess = self.config.installSimplePsf
        if exposure.psf is None or self.config.doMeasurePsf:
            exposure.psf = Psf.gaussian(self._first_sigma(exposure), guess.width | 1)
        iterations = self.config.psfIterations if self.config.doMeasurePsf else 1
        removed: tuple[Any, ...] = ()
        catalog: Table | None = None
        sources: SourceList | None = None
        detections: Detections | None = None
        for iteration in range(iterations):
            self.log.warning("Source catalog detected and measured with placeholder or default PSF")
            self._restore(exposure, removed)
            removed = self._repair(exposure)
            assert exposure.psf is not None
            detections = detect(exposure, exposure.psf, self.config.detection, background, self.log)
            sources, catalog = self._measure(exposure, detections, exposure_id, detector)
            if self.config.doMeasurePsf:
                # Only the last model has to be good.
                rounds = 6 if iteration + 1 == iterations else 3
                self._measure_psf(exposure, detections, sources, catalog, exposure_id, rounds)
            levels = sum(float(np.median(model.levels)) for model in background)
            self.log.info(
                "iter %d; PSF sigma=%0.2f, dimensions=(%d, %d); median background=%0.2f",
                iteration + 1,
                exposure.psf.sigma_at(*exposure.psf.center),
                exposure.psf.size,
                exposure.psf.size,
                levels,
            )
        assert detections is not None
        assert catalog is not None
        assert exposure.psf is not None
        self._restore(exposure, removed)
        self._repair(exposure)
        calibration = {name: np.asarray(catalog[name]) for name in _PSF_FLAGS}
        _, catalog = self._measure(exposure, detections, exposure_id, detector)
        for name, values in calibration.items():
            catalog[name] = values
        if self.config.doApCorr:
            self._correct_apertures(exposure, catalog)
        if exposure.wcs is not None:
            from butler_dask.imaging.source_catalog import fill_coordinates

            fill_coordinates(catalog, exposure)
        exposure.summary_stats["psfSigma"] = exposure.psf.sigma_at(*exposure.psf.center)
        exposure.summary_stats["nPsfStar"] = float(np.sum(catalog["calib_psf_used"]))
        self.metadata["nCharacterizedSources"] = len(catalog)
        return Struct(characterized=exposure, sourceCat=catalog, backgroundModel=background)

    def _first_sigma(self, exposure: Exposure) -> float:
        """Return the width of the first PSF: the guess, or less where stars are sharper than it.

        A guess wider than the stars would take them for cosmic rays; one that is narrower does no harm.
        """
        import numpy as np

        from butler_dask.imaging.star_selection import estimate_seeing

        guess = float(self.config.installSimplePsf.fwhm) / 2.3548
        seen = estimate_seeing(exposure)
        return guess if np.isnan(seen) else min(guess, max(seen, 0.5))

    def _require_pixels(self, exposure: Exposure) -> None:
        import numpy as np

        planes = [p for p in ("BAD", "NO_DATA") if p in exposure.mask.planes]
        bits = exposure.mask.bitmask(planes)
        for step in (16, 1):  # a sparse look mostly answers
            rows = slice(None, None, step)
            usable = (exposure.mask.array[rows, rows] & bits) == 0
            if (usable & np.isfinite(exposure.image[rows, rows])).any():
                return
        raise NoWorkFound("No usable pixel: all are BAD, NO_DATA or not finite")

    def _repair(self, exposure: Exposure) -> tuple[Any, ...]:
        """Find and replace cosmic rays; return what was there, for `_restore`."""
        if not self.config.repair.doCosmicRay:
            return ()
        from butler_dask.imaging.cosmic_rays import find_cosmic_rays, repair_cosmic_rays

        config = self.config.repair.cosmicray
        assert exposure.psf is not None
        found = find_cosmic_rays(
            exposure,
            exposure.psf,
            min_sigma=config.minSigma,
            min_electrons=config.min_DN,
            contrast=config.cond3_fac2,
            noise_factor=config.cond3_fac,
        )
        log = self.log.getChild("repair")
        if len(found.y) > config.nCrPixelMax:
            log.warning(
                "%d struck pixels are more than nCrPixelMax=%d; none is replaced",
                len(found.y),
                config.nCrPixelMax,
            )
            return ()
        log.info("Identified %d cosmic rays.", found.n_objects)
        where = (found.y, found.x)
        before = (
            exposure.image[where].copy(),
            exposure.variance[where].copy(),
            exposure.mask.array[where].copy(),
        )
        repair_cosmic_rays(exposure, found)
        return where, before[0] - exposure.image[where], before[1], before[2]

    def _restore(self, exposure: Exposure, removed: tuple[Any, ...]) -> None:
        """Put cosmic rays back, so that a better PSF can judge them anew."""
        if removed:
            where, difference, variance, mask = removed
            # The sky may have been refitted since: only the difference is put back.
            exposure.image[where] += difference
            exposure.variance[where] = variance
            cleared = exposure.mask.array[where] & ~exposure.mask.bitmask(("CR", "INTRP"))
            exposure.mask.array[where] = cleared | (mask & exposure.mask.bitmask(("CR", "INTRP")))

    def _measure(
        self, exposure: Exposure, detections: Detections, exposure_id: int, detector: int
    ) -> tuple[SourceList, Table]:
        import numpy as np

        from butler_dask.imaging.deblending import deblend_sources, sources_from_footprints
        from butler_dask.imaging.source_catalog import measure_sources
        from butler_dask.imaging.source_ids import source_ids

        config = self.config.detection
        assert exposure.psf is not None
        everything = sources_from_footprints(detections.positive)
        if self.config.doDeblend:
            everything = deblend_sources(exposure, detections.positive, everything, exposure.psf).sources
        bright = everything.significance > config.thresholdValue * max(config.includeThresholdMultiplier, 1.0)
        sources = everything.subset(bright)
        new_row = np.cumsum(bright) - 1
        parents = everything.parent_index[bright]
        known = (parents >= 0) & bright[np.maximum(parents, 0)]
        sources.parent_index = np.where(known, new_row[np.maximum(parents, 0)], -1)
        children = int((sources.parent_index >= 0).sum())
        self.log.getChild("measurement").info(
            "Measuring %d sources (%d parents, %d children)", len(sources), len(sources) - children, children
        )
        catalog = measure_sources(
            exposure,
            exposure.psf,
            detections.positive.labels,
            sources,
            source_ids(exposure_id, detector, len(sources)),
            radii=list(self.config.measurement.apertureRadii),
            weighted_psf_flux=self.config.measurement.usePixelWeights,
            psf_model_error=self.config.measurement.psfModelError,
        )
        return sources, catalog

    def _measure_psf(
        self,
        exposure: Exposure,
        detections: Detections,
        sources: SourceList,
        catalog: Table,
        exposure_id: int,
        n_rounds: int,
    ) -> None:
        """Select stars, fit the PSF model and set the exposure's PSF and the catalogue's flags."""
        import numpy as np

        from butler_dask.imaging.psf import Psf
        from butler_dask.imaging.psf_model import fit_psf_model
        from butler_dask.imaging.star_selection import reserve_stars, select_stars

        config = self.config.measurePsf
        log = self.log.getChild("measurePsf")
        log.info("Measuring PSF")
        selection = select_stars(
            catalog,
            min_signal_to_noise=config.starSelector.signalToNoiseMin,
            max_stars=config.starSelector.maxStars,
            isolated=_isolated(detections, sources),
        )
        candidates = selection.selected
        n = int(candidates.sum())
        log.info("PSF star selector found %d candidates", n)
        reserved = reserve_stars(candidates, config.reserve.fraction, exposure_id + config.reserve.seed)
        # With a handful of stars all are needed.
        if n - reserved.sum() < 4:
            reserved[:] = False
        log.getChild("reserve").info("Reserved %d/%d sources", reserved.sum(), n)
        sent = np.flatnonzero(candidates & ~reserved)
        log.info("Sending %d candidates to PSF determiner", len(sent))
        catalog["calib_psf_candidate"] = candidates
        catalog["calib_psf_reserved"] = reserved
        if n == 0:
            log.warning("No star to measure the PSF with; keeping the one used for detection")
            return
        size = config.psfDeterminer.stampSize | 1
        stars = sources.subset(sent)
        stars.x = np.asarray(catalog["base_SdssCentroid_x"])[sent]
        stars.y = np.asarray(catalog["base_SdssCentroid_y"])[sent]
        try:
            fit = fit_psf_model(
                exposure,
                detections.positive.labels,
                stars,
                sigma_pixels=selection.sigma_pixels,
                degree=config.psfDeterminer.spatialOrder,
                size=size,
                n_rounds=n_rounds,
            )
        except ValueError as error:
            log.warning("%s; using a Gaussian of sigma=%.2f instead", error, selection.sigma_pixels)
            exposure.psf = Psf.gaussian(selection.sigma_pixels, size)
            return
        used = np.zeros(len(catalog), bool)
        used[sent] = fit.used
        catalog["calib_psf_used"] = used
        log.info("PSF determination using %d/%d stars.", used.sum(), len(sent))
        exposure.psf = fit.psf

    def _correct_apertures(self, exposure: Exposure, catalog: Table) -> None:
        import numpy as np

        from butler_dask.imaging.aperture_correction import (
            apply_aperture_corrections,
            fit_aperture_correction,
        )

        config = self.config.measureApCorr
        log = self.log.getChild("measureApCorr")
        log.info("Measuring aperture corrections for %d flux fields", len(config.fields))
        with np.errstate(invalid="ignore", divide="ignore"):
            signal = np.asarray(catalog["base_PsfFlux_instFlux"]) / np.asarray(
                catalog["base_PsfFlux_instFluxErr"]
            )
        stars = np.asarray(catalog["calib_psf_used"]) | np.asarray(catalog["calib_psf_reserved"])
        rows = stars & (signal > config.minSignalToNoise)
        if rows.sum() < 5:
            rows = stars
        log.getChild("sourceSelector").info("Selected %d/%d sources", rows.sum(), len(catalog))
        corrections: dict[str, NDArray[np.float64]] = {}
        for field in config.fields:
            fit = fit_aperture_correction(
                catalog, rows, field, config.refFluxName, exposure.shape, degree=config.spatialOrder
            )
            if fit is None:
                log.warning("Too few stars for the aperture correction of %s; it stays uncorrected", field)
                continue
            log.info("Aperture correction for %s: RMS %f from %d", field, fit.rms, fit.n_used)
            corrections[f"{field}_instFlux"] = fit.coefficients
        exposure.ap_corr = corrections
        n = apply_aperture_corrections(catalog, corrections, list(config.fields), exposure.shape)
        self.log.getChild("applyApCorr").info("Applying aperture corrections to %d instFlux fields", n)


_PSF_FLAGS = ("calib_psf_candidate", "calib_psf_used", "calib_psf_reserved")


def _isolated(detections: Detections, sources: SourceList) -> NDArray[np.bool_]:
    """Return which sources have no neighbour in their footprint brighter than 2 % of them.

    Falls back on all sources where fewer than ten are so lucky (a crowded field).
    """
    import numpy as np

    footprints = detections.positive
    highest = np.zeros(len(footprints) + 1)
    np.maximum.at(highest, footprints.peak_footprint, footprints.peak_significance)
    rival = footprints.peak_significance < highest[footprints.peak_footprint]
    second = np.zeros(len(footprints) + 1)
    np.maximum.at(second, footprints.peak_footprint[rival], footprints.peak_significance[rival])
    isolated: NDArray[np.bool_] = second[sources.footprint] < 0.02 * sources.significance
    return isolated if isolated.sum() >= 10 else np.ones(len(sources), bool)
