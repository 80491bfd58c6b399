"""characterizeImage: cosmic rays, sky, bright sources, PSF and aperture corrections of one detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from lsst.pex.config import Config, ConfigField, Field, ListField, RangeField

from butler_dask.pipeline import (
    InputQuantizedConnection,
    NoWorkFound,
    OutputQuantizedConnection,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    QuantumContext,
    Struct,
)
from butler_dask.pipeline import connectionTypes as cT

from .source_detection import (
    SourceDetectionConfig,
    SourceMeasurementConfig,
    SubtractBackgroundConfig,
    detect,
    identity,
    subtract_sky,
)

if TYPE_CHECKING:
    import numpy as np
    from astropy.table import Table
    from numpy.typing import NDArray

    from butler_dask.imaging.detection import Detections
    from butler_dask.imaging.exposure import Exposure
    from butler_dask.imaging.stamps import SourceList


class CharacterizeImageConnections(PipelineTaskConnections, dimensions=("instrument", "visit", "detector")):
    """Datasets of `CharacterizeImageTask`."""

    exposure = cT.Input(
        doc="Exposure after isr",
        name="postISRCCD",
        storageClass="Exposure",
        dimensions=("instrument", "exposure", "detector"),
    )
    characterized = cT.Output(
        doc="Exposure with PSF and aperture corrections, sky subtracted",
        name="icExp",
        storageClass="ExposureF",
        dimensions=("instrument", "visit", "detector"),
    )
    sourceCat = cT.Output(
        doc="Bright sources",
        name="icSrc",
        storageClass="SourceCatalog",
        dimensions=("instrument", "visit", "detector"),
    )
    backgroundModel = cT.Output(
        doc="Sky that was subtracted",
        name="icExpBackground",
        storageClass="Background",
        dimensions=("instrument", "visit", "detector"),
    )


class CosmicRayConfig(Config):  # type: ignore[misc]  # pex_config ships no types
    """How cosmic rays are found."""

    minSigma = RangeField(dtype=float, default=6.0, min=0.0, doc="Least height of a struck pixel [sigma]")
    min_DN = RangeField(dtype=float, default=150.0, min=0.0, doc="Least charge of a cosmic ray [electrons]")
    cond3_fac = Field(dtype=float, default=2.5, doc="Noise granted in the comparison with the PSF [sigma]")
    cond3_fac2 = Field(
        dtype=float, default=0.6, doc="Fraction of the PSF's fall-off that is too sharp for a star"
    )
    nCrPixelMax = RangeField(
        dtype=int, default=500_000, min=0, doc="More struck pixels than this are taken for a failure"
    )


class RepairConfig(Config):  # type: ignore[misc]
    """What is repaired."""

    doCosmicRay = Field(dtype=bool, default=True, doc="Find and replace cosmic rays?")
    cosmicray = ConfigField(dtype=CosmicRayConfig, doc="Cosmic rays")


class InstallSimplePsfConfig(Config):  # type: ignore[misc]
    """The PSF to begin with."""

    fwhm = RangeField(dtype=float, default=3.5323, min=0.5, doc="Full width at half maximum [pixels]")
    width = RangeField(dtype=int, default=41, min=5, doc="Size of its image, odd [pixels]")


class StarSelectorConfig(Config):  # type: ignore[misc]
    """Which sources are stars fit for the PSF."""

    signalToNoiseMin = RangeField(dtype=float, default=50.0, min=0.0, doc="Least signal to noise")
    maxStars = RangeField(dtype=int, default=300, min=1, doc="The brightest so many are used")


class ReserveConfig(Config):  # type: ignore[misc]
    """Stars kept out of the PSF fit to test it."""

    fraction = RangeField(dtype=float, default=0.2, min=0.0, max=0.9, doc="Fraction of the stars")
    seed = Field(dtype=int, default=1, doc="Added to the exposure number")


class PsfDeterminerConfig(Config):  # type: ignore[misc]
    """How the PSF model is fitted."""

    spatialOrder = RangeField(
        dtype=int, default=2, min=0, max=4, doc="Degree of the polynomial in position; less with few stars"
    )
    stampSize = RangeField(dtype=int, default=41, min=11, doc="Size of the PSF's image, odd [pixels]")


class MeasurePsfConfig(Config):  # type: ignore[misc]
    """How the PSF is measured."""

    starSelector = ConfigField(dtype=StarSelectorConfig, doc="Stars")
    reserve = ConfigField(dtype=ReserveConfig, doc="Reserved stars")
    psfDeterminer = ConfigField(dtype=PsfDeterminerConfig, doc="Model")


class MeasureApCorrConfig(Config):  # type: ignore[misc]
    """How aperture corrections are measured."""

    refFluxName = Field(
        dtype=str, default="base_CircularApertureFlux_12_0", doc="Flux that the others should agree with"
    )
    fields = ListField(dtype=str, default=["base_PsfFlux", "base_GaussianFlux"], doc="Fluxes to correct")
    spatialOrder = RangeField(
        dtype=int, default=2, min=0, max=4, doc="Degree of the polynomial in position; less with few stars"
    )
    minSignalToNoise = RangeField(dtype=float, default=100.0, min=0.0, doc="Of the stars used")


class CharacterizeImageConfig(PipelineTaskConfig, pipelineConnections=CharacterizeImageConnections):
    """Configuration of `CharacterizeImageTask`."""

    doMeasurePsf = Field(
        dtype=bool, default=True, doc="Measure the PSF? If not, the exposure's or a guess stays"
    )
    psfIterations = RangeField(dtype=int, default=2, min=1, doc="Rounds of detection and PSF measurement")
    doDeblend = Field(dtype=bool, default=False, doc="Divide sources with several peaks?")
    doApCorr = Field(dtype=bool, default=True, doc="Measure and apply aperture corrections?")
    background = ConfigField(dtype=SubtractBackgroundConfig, doc="First sky, before anything is detected")
    repair = ConfigField(dtype=RepairConfig, doc="Cosmic rays")
    installSimplePsf = ConfigField(dtype=InstallSimplePsfConfig, doc="First PSF")
    detection = ConfigField(dtype=SourceDetectionConfig, doc="Detection")
    measurement = ConfigField(dtype=SourceMeasurementConfig, doc="Measurement")
    measurePsf = ConfigField(dtype=MeasurePsfConfig, doc="PSF")
    measureApCorr = ConfigField(dtype=MeasureApCorrConfig, doc="Aperture corrections")

    def setDefaults(self) -> None:
        """List only bright sources: they are for the PSF."""
        super().setDefaults()
        self.detection.includeThresholdMultiplier = 10.0


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
            exposure.psf = Psf.gaussian(guess.fwhm / 2.3548, guess.width | 1)
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
