"""IsrTask: instrument signature removal, raw -> postISRCCD.

The steps, their order and their log lines are those of the field's isr; names of config fields and
connections too, so that existing overrides apply. Pixels leave in electrons.

Where several steps touch single pixels only (overscan, bias, linearity; gain and noise; dark and flat) they
are done in one pass and their lines logged in the usual order. Bias is in ADU, dark in electrons (or ADU
where its header says ``BUNIT = 'adu'``), flat relative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..pipeline import PipelineTask, Struct
from .isr_config import FringeConfig, IsrTaskConfig, IsrTaskConnections, OverscanConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.detector import Detector
    from ..imaging.exposure import Exposure

__all__ = ["FringeConfig", "IsrTask", "IsrTaskConfig", "IsrTaskConnections", "OverscanConfig"]


class IsrTask(PipelineTask):
    """Remove the signature of the instrument from one raw."""

    ConfigClass = IsrTaskConfig
    _DefaultName = "isr"

    def run(
        self,
        *,
        ccdExposure: Exposure,
        camera: Any = None,
        bias: Exposure | None = None,
        dark: Exposure | None = None,
        flat: Exposure | None = None,
        fringe: Exposure | None = None,
        defects: Any = None,
        linearizer: Mapping[str, Any] | None = None,
        crosstalk: Mapping[str, Any] | None = None,
        bfKernel: NDArray[np.floating[Any]] | None = None,
    ) -> Struct:
        """Process one raw.

        Parameters
        ----------
        ccdExposure : `Exposure`
            Raw, untrimmed [ADU]; not changed.
        camera : `Camera`, optional
            Used where the raw does not carry its detector.
        bias, dark, flat, fringe : `Exposure`, optional
            Combined frames, needed where the configuration applies them.
        defects : `astropy.table.Table`, optional
            x0, y0, width, height.
        linearizer, crosstalk : mapping, optional
            Coefficients; the detector's own where not given.
        bfKernel : `numpy.ndarray`, optional
            Brighter-fatter kernel; the correction is skipped with a warning where there is none.

        Returns
        -------
        result : `Struct`
            ``outputExposure`` (also as ``exposure``): assembled `Exposure` [electrons].

        Raises
        ------
        ValueError
            If a calibration the configuration asks for is not given, or has another shape.
        """
        from ..imaging.assembly import assemble
        from ..imaging.exposure import Exposure
        from ..imaging.frame_correction import (
            apply_dark_and_flat,
            apply_gain_and_variance,
            merge_calibration_mask,
        )
        from ..imaging.linearity import linearity_coefficients

        config = self.config
        detector = self._detector(ccdExposure, camera)
        self._require(bias=bias, dark=dark, flat=flat, defects=defects)

        self.log.info("Converting exposure to floating point values.")
        row_levels, column_levels = self._overscan_levels(ccdExposure.image, detector)
        self.log.info("Assembling CCD from amplifiers.")
        if config.doBias:
            self.log.info("Applying bias correction.")
        coefficients = linearity_coefficients(detector, linearizer) if config.doLinearize else {}
        if config.doLinearize:
            self.log.info("Applying linearizer.")
        image, mask = assemble(
            ccdExposure.image,
            detector,
            row_levels,
            column_levels=column_levels,
            bias=bias.image if config.doBias and bias is not None else None,
            linearity=coefficients,
            mask_saturation=config.doSaturation,
            suspect_levels={a.name: a.saturation * config.suspectFraction for a in detector.amplifiers}
            if config.doSuspect
            else None,
        )
        self._correct_crosstalk(image, mask, detector, crosstalk)
        if config.doDefect:
            from ..imaging.defects import mask_defects

            self.log.info("Masking defects.")
            mask_defects(mask, defects)
        if config.numEdgeSuspect:
            from ..imaging.saturation import mask_edges

            mask_edges(mask, config.numEdgeSuspect)
        self.log.info("Masking NAN value pixels.")
        variance, n_nan = apply_gain_and_variance(
            image,
            mask,
            detector,
            apply_gains=config.doApplyGains,
            bias_variance=_noise(bias) if config.doBias else None,
        )
        if n_nan:
            self.log.warning("There were %d unmasked NaNs.", n_nan)
        if config.doSaturation and config.doWidenSaturationTrails:
            from ..imaging.saturation import widen_saturation_trails

            self.log.info("Widening saturation trails.")
            widen_saturation_trails(mask)
        for wanted, frame in ((config.doBias, bias), (config.doDark, dark), (config.doFlat, flat)):
            if wanted and frame is not None:
                merge_calibration_mask(mask, frame.mask)
        if config.doBrighterFatter:
            image = self._correct_brighter_fatter(image, variance, mask, bfKernel)

        dark_image, dark_scale = None, 1.0
        if config.doDark and dark is not None:
            self.log.info("Applying dark correction.")
            dark_scale = self._dark_scale(ccdExposure, dark)
            dark_image = self._dark_in_image_unit(dark, detector)
        if config.doFlat:
            self.log.info("Applying flat correction.")
        apply_dark_and_flat(
            image,
            variance,
            mask,
            dark=dark_image,
            dark_scale=dark_scale,
            dark_variance=_noise(dark) if config.doDark else None,
            flat=flat.image if config.doFlat and flat is not None else None,
            flat_variance=_noise(flat) if config.doFlat else None,
        )
        exposure = Exposure(
            image,
            mask,
            variance,
            wcs=ccdExposure.wcs,
            detector=detector,
            visit_info=ccdExposure.visit_info,
            filter=ccdExposure.filter,
            metadata=dict(ccdExposure.metadata),
        )
        if not config.doVariance:
            exposure.variance[:] = 0.0
        exposure.metadata["BUNIT"] = "electron" if config.doApplyGains else "adu"
        if config.doFringe:
            self._subtract_fringe(exposure, fringe)
        self._replace_masked(exposure)
        if exposure.visit_info is None or exposure.visit_info.observation_type in ("science", ""):
            self._set_zero_point(exposure)
        self._measure_sky(exposure)
        return Struct(outputExposure=exposure, exposure=exposure)

    # ---------------------------------------------------------------- steps

    def _detector(self, raw: Exposure, camera: Any) -> Detector:
        if raw.detector is not None:
            return raw.detector
        if camera is not None and len(camera) == 1:
            only: Detector = next(iter(camera))
            return only
        raise ValueError("The raw exposure does not say which detector it is from")

    def _require(self, **given: Any) -> None:
        switches = {"bias": "doBias", "dark": "doDark", "flat": "doFlat", "defects": "doDefect"}
        missing = [n for n, s in switches.items() if getattr(self.config, s) and given[n] is None]
        if missing:
            wishes = ", ".join(f"isr:{switches[n]}=False" for n in missing)
            raise ValueError(f"isr needs {', '.join(missing)}; certify them, or switch off with -c {wishes}")

    def _overscan_levels(
        self, raw: NDArray[Any], detector: Detector
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]] | None]:
        from ..imaging.overscan import parallel_levels, serial_levels

        config = self.config.overscan
        if not self.config.doOverscan:
            return {}, None
        rows = {}
        for amplifier in detector.amplifiers:
            levels = serial_levels(
                raw,
                amplifier,
                config.fitType,
                order=config.order,
                clip_sigma=config.numSigmaClip,
                skip_leading=config.leadingColumnsToSkip,
                skip_trailing=config.trailingColumnsToSkip,
            )
            rows[amplifier.name] = levels
            self.metadata[f"OVERSCAN {amplifier.name}"] = float(np.median(levels))
            self.log.debug("Overscan of amplifier %s: %.2f ADU.", amplifier.name, np.median(levels))
        if not config.doParallelOverscan:
            return rows, None
        columns = {
            a.name: parallel_levels(
                raw,
                a,
                float(np.median(rows[a.name][-16:])),
                skip_leading=config.leadingRowsToSkip,
            )
            for a in detector.amplifiers
        }
        return rows, columns

    def _correct_crosstalk(
        self, image: NDArray[np.float32], mask: Any, detector: Detector, crosstalk: Mapping[str, Any] | None
    ) -> None:
        if not self.config.doCrosstalk:
            return
        from ..imaging.crosstalk import crosstalk_matrix, subtract_crosstalk

        self.log.info("Applying crosstalk correction.")
        matrix = crosstalk_matrix(detector, crosstalk)
        if np.any(matrix):
            self.log.getChild("crosstalk").info("Applying crosstalk correction.")
            subtract_crosstalk(image, mask, detector, matrix, threshold=self.config.crosstalkMinPixelToMask)

    def _correct_brighter_fatter(
        self,
        image: NDArray[np.float32],
        variance: NDArray[np.float32],
        mask: Any,
        kernel: NDArray[np.floating[Any]] | None,
    ) -> NDArray[np.float32]:
        from ..imaging.brighter_fatter import correct_brighter_fatter
        from ..imaging.interpolation import estimate_pixels
        from ..imaging.saturation import grow_mask, mask_edges

        config = self.config
        if kernel is None:
            self.log.warning("There is no brighter-fatter kernel; the correction is skipped.")
            return image
        planes = tuple(config.brighterFatterMaskListToInterpolate)
        pixels, values = estimate_pixels(image, variance, mask, planes)
        y, x = pixels[:, 0], pixels[:, 1]
        measured = image[y, x]
        image[y, x] = values
        gains = None
        self.log.info(
            "Applying brighter fatter correction using kernel type %s / gains %s.",
            type(kernel),
            type(gains),
        )
        corrected, n_iterations, change = correct_brighter_fatter(
            image,
            np.asarray(kernel),
            max_iterations=config.brighterFatterMaxIter,
            threshold=config.brighterFatterThreshold,
        )
        corrected[y, x] += measured - values  # masked pixels keep what was measured
        if change < config.brighterFatterThreshold:
            self.log.info("Finished brighter fatter correction in %d iterations.", n_iterations)
        else:
            self.log.warning(
                "Brighter fatter correction did not converge in %d iterations: last change %.1f.",
                n_iterations,
                change,
            )
        self.metadata["BF iterations"] = n_iterations
        self.log.info("Ensuring image edges are masked as SUSPECT to the brighter-fatter kernel size.")
        mask_edges(mask, kernel.shape[0] // 2, "SUSPECT")
        self.log.info("Growing masks to account for brighter-fatter kernel convolution.")
        grow_mask(mask, planes, config.brighterFatterMaskGrowSize)
        return corrected

    def _dark_scale(self, raw: Exposure, dark: Exposure) -> float:
        ours = raw.visit_info.dark_time_s if raw.visit_info is not None else float("nan")
        theirs = dark.visit_info.dark_time_s if dark.visit_info is not None else float("nan")
        if not theirs > 0:
            self.log.warning("darkExposure.getInfo().getVisitInfo() does not exist. Using darkScale = 1.0.")
            return 1.0
        if not ours >= 0:
            self.log.warning("The raw exposure has no dark time. Using darkScale = 1.0.")
            return 1.0
        return ours / theirs

    def _dark_in_image_unit(self, dark: Exposure, detector: Detector) -> NDArray[np.float32]:
        """Return the dark in electrons or ADU, as the image is."""
        from ..imaging.detector import box_slices

        in_adu = str(dark.metadata.get("BUNIT", "electron")).strip().lower() == "adu"
        if in_adu != self.config.doApplyGains:
            return dark.image
        converted = dark.image.copy()
        for amplifier in detector.amplifiers:
            factor = amplifier.gain if in_adu else 1.0 / amplifier.gain
            converted[box_slices(amplifier.box)] *= np.float32(factor)
        return converted

    def _subtract_fringe(self, exposure: Exposure, fringe: Exposure | None) -> None:
        from ..imaging.fringe import fringe_amplitude, subtract_fringe

        config = self.config.fringe
        log = self.log.getChild("fringe")
        self.log.info("Applying fringe correction after flat.")
        if exposure.filter.physical not in config.filters:
            log.info("Filter not found in FringeTaskConfig.filters. Skipping fringe correction.")
            return
        if fringe is None:
            log.warning("No fringe frame for %s. Skipping fringe correction.", exposure.filter.physical)
            return
        amplitude = fringe_amplitude(
            exposure.image,
            exposure.mask,
            fringe.image,
            n_points=config.num,
            half_size=config.small,
            iterations=config.iterations,
            clip_sigma=config.clip,
        )
        subtract_fringe(exposure.image, fringe.image, amplitude)
        log.info("Fringe amplitude: %f.", amplitude)
        self.metadata["FRINGE amplitude"] = amplitude

    def _replace_masked(self, exposure: Exposure) -> None:
        from ..imaging.interpolation import fill_pixels, find_pixels, interpolate_pixels
        from ..imaging.sky_level import sample_median

        config = self.config
        image, mask = exposure.image, exposure.mask
        planes = tuple(config.maskListToInterpolate)
        pixels = find_pixels(mask, {*planes, "BAD"})
        if config.doSetBadRegions and len(pixels):
            level = sample_median(image, mask)
            n_bad = fill_pixels(image, mask, ("BAD",), level, pixels=pixels)
            if n_bad:
                self.log.info("Set %d BAD pixels to %f.", n_bad, level)
        if config.doInterpolate:
            self.log.info("Interpolating masked pixels.")
            known = pixels if "BAD" in planes else None
            interpolate_pixels(image, exposure.variance, mask, planes, pixels=known)

    def _set_zero_point(self, exposure: Exposure) -> None:
        from ..imaging.photo_calib import PhotoCalib

        flux = self.config.fluxMag0T1.get(exposure.filter.physical, self.config.defaultFluxMag0T1)
        time = exposure.visit_info.exposure_time_s if exposure.visit_info is not None else float("nan")
        if not time > 0:
            self.log.warning("Exposure time is not known; skipping rough zero point.")
            return
        zero_point = 2.5 * np.log10(flux * time)
        self.log.info("Setting rough magnitude zero point: %f", zero_point)
        exposure.photo_calib = PhotoCalib.from_zero_point(float(zero_point))

    def _measure_sky(self, exposure: Exposure) -> None:
        from ..imaging.sky_level import measure_sky

        config = self.config
        if not (config.doMeasureBackground or config.doMeasureSky):
            return
        self.log.info("Measuring background level.")
        sky = measure_sky(exposure.image, exposure.mask, mesh_x=config.skyMeshX, mesh_y=config.skyMeshY)
        self.log.info("Flattened sky level: %f +/- %f.", sky.level, sky.sigma)
        if config.doMeasureSky:
            self.log.info("Measuring sky levels in %dx%d grids: %f.", sky.n_x, sky.n_y, sky.mesh_level)
            self.log.info(
                "Sky flatness in %dx%d grids - pp: %f rms: %f.",
                sky.n_x,
                sky.n_y,
                sky.flatness_pp,
                sky.flatness_rms,
            )
        exposure.summary_stats |= {"skyLevel": sky.level, "skySigma": sky.sigma}
        self.metadata["SKYLEVEL"] = sky.level
        self.metadata["SKYSIGMA"] = sky.sigma


def _noise(frame: Exposure | None) -> NDArray[np.float32] | None:
    """Return the variance of a calibration frame if it has any."""
    if frame is None or not frame.variance[:: max(frame.shape[0] // 64, 1)].any():
        return None
    return frame.variance
