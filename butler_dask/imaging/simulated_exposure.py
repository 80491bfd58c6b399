"""SimulatedExposure: one raw exposure of one detector, and all that is true of it.

Puts together `simulated_sky` (what is up there), `camera` (where it falls) and `simulated_detector` (what is
recorded). The header is the instrument's business and is added by whoever writes the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .simulated_detector import SimulatedDetector
from .simulated_sky import PsfField, SimulatedSky, electrons, render_objects, sky_electrons
from .sky_wcs import SkyWcs

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True, slots=True)
class Observation:
    """How one exposure is taken.

    Parameters
    ----------
    visit : `int`
        Exposure number; with the sky's seed it fixes seeing, pointing error and noise.
    ra_deg, dec_deg, rotation_deg : `float`
        Where the telescope was told to point, and position angle of the focal plane's +y [deg].
    band : `str`
        One of `BANDS`.
    exposure_time_s : `float`
        Exposure time [s].
    fwhm_arcsec : `float`
        Seeing in the middle of the field [arcsec].
    pointing_error_arcsec : `float`
        Standard deviation of the pointing error on each axis [arcsec].
    transparency_mag : `float`
        Extinction by clouds [mag].
    """

    visit: int
    ra_deg: float
    dec_deg: float
    rotation_deg: float = 0.0
    band: str = "r"
    exposure_time_s: float = 30.0
    fwhm_arcsec: float = 0.68
    pointing_error_arcsec: float = 2.5
    transparency_mag: float = 0.0


FIELD_DISTORTION = 2.0e-8
"""k1 of a radial distortion that the camera file does not know [1 / mm**2]: 0.2 mm at the field's edge."""

COSMIC_RAYS_PER_CM2_S = 0.12
"""Rate of cosmic rays; 67 in 30 s on a detector of 2048 x 4176 pixels of 15 um."""


@dataclass(frozen=True)
class SimulatedExposure:
    """One exposure of one detector with its truth.

    Parameters
    ----------
    raw : `numpy.ndarray`, shape `Detector.raw_shape`, uint16 [ADU]
        As a file would have it.
    wcs : `SkyWcs`
        True world coordinates of the assembled detector.
    objects : `astropy.table.Table`
        Truth catalogue of the objects on the array and just outside, with x, y [pixels] and flux [electrons].
    light : `numpy.ndarray`, shape (ny, nx), float32 [electrons]
        Expectation of what a perfectly flat detector would see, sky included.
    sky : `numpy.ndarray`, shape (ny, nx), float32 [electrons]
        The sky's part of it.
    cosmic_rays : `numpy.ndarray`, shape (ny, nx), bool [1]
        Pixels hit.
    psf : `PsfField`
        PSF of the visit over the focal plane.
    zero_point_mag : `float`
        AB magnitude of one electron of the whole exposure.
    """

    raw: NDArray[np.uint16]
    wcs: SkyWcs
    objects: Table
    light: NDArray[np.float32]
    sky: NDArray[np.float32]
    cosmic_rays: NDArray[np.bool_]
    psf: PsfField
    zero_point_mag: float


def true_wcs(camera: Camera, detector: int, observation: Observation, seed: int) -> SkyWcs:
    """Return where a detector truly looks: pointing error and unknown distortion included.

    Parameters
    ----------
    camera : `Camera`
        Focal plane.
    detector : `int`
        Detector number.
    observation : `Observation`
        Where the telescope was told to point.
    seed : `int`
        Seed of the sky.
    """
    rng = np.random.default_rng([seed, 1, observation.visit])
    offset = rng.normal(0.0, observation.pointing_error_arcsec, 2) / 3600.0
    turn = rng.normal(0.0, 5.0) / 3600.0
    distorted = replace(camera, radial_distortion=camera.radial_distortion or (FIELD_DISTORTION,))
    return distorted.initial_wcs(
        detector,
        observation.ra_deg + offset[0] / np.cos(np.radians(observation.dec_deg)),
        observation.dec_deg + offset[1],
        observation.rotation_deg + turn,
    )


def visit_psf(observation: Observation, seed: int) -> PsfField:
    """Return the PSF of a visit over the focal plane."""
    return PsfField.random(np.random.default_rng([seed, 2, observation.visit]), observation.fwhm_arcsec)


def simulate_exposure(
    sky: SimulatedSky,
    camera: Camera,
    detector: int,
    observation: Observation,
    *,
    sensor: SimulatedDetector | None = None,
) -> SimulatedExposure:
    """Simulate one raw exposure of one detector.

    Parameters
    ----------
    sky : `SimulatedSky`
        What is up there.
    camera : `Camera`
        Focal plane.
    detector : `int`
        Detector number.
    observation : `Observation`
        Pointing, band, time, seeing.
    sensor : `SimulatedDetector`, optional
        The sensor; one with all flaws, seeded by the sky's seed, when not given.

    Returns
    -------
    exposure : `SimulatedExposure`
        The same for the same arguments, always.
    """
    definition = camera[detector]
    sensor = sensor or SimulatedDetector(definition, sky.seed)
    rng = np.random.default_rng([sky.seed, 3, observation.visit, detector])
    wcs = true_wcs(camera, detector, observation, sky.seed)
    shape = definition.shape
    scale = wcs.pixel_scale_arcsec(0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1))
    objects = sky.objects_on(wcs, shape)
    objects["flux"] = electrons(
        np.asarray(objects[f"mag_{observation.band}"]) + observation.transparency_mag,
        observation.band,
        observation.exposure_time_s,
    )
    psf = visit_psf(observation, sky.seed)
    x_mm, y_mm = focal_plane_position(camera, detector, objects["x"], objects["y"])
    light = render_objects(shape, objects, psf.covariance(x_mm, y_mm, scale), scale)
    level = sky_electrons(observation.band, observation.exposure_time_s, scale)
    slope = np.random.default_rng([sky.seed, 4, observation.visit]).normal(0.0, 0.01, 2)
    y, x = np.linspace(-1, 1, shape[0])[:, np.newaxis], np.linspace(-1, 1, shape[1])[np.newaxis, :]
    background = (level * (1.0 + slope[0] * x + slope[1] * y)).astype(np.float32)
    light += background
    area_cm2 = shape[0] * shape[1] * (definition.pixel_size_mm / 10.0) ** 2
    raw, hit = sensor.expose(
        light,
        rng,
        exposure_time_s=observation.exposure_time_s,
        band=observation.band,
        n_cosmic_rays=int(rng.poisson(COSMIC_RAYS_PER_CM2_S * area_cm2 * observation.exposure_time_s)),
    )
    zero_point = float(
        -2.5 * np.log10(1.0 / electrons(0.0, observation.band, observation.exposure_time_s))
        - observation.transparency_mag
    )
    return SimulatedExposure(raw, wcs, objects, light, background, hit, psf, zero_point)


def focal_plane_position(
    camera: Camera, detector: int, x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the focal-plane positions of positions on the assembled detector.

    Parameters
    ----------
    camera : `Camera`
        Focal plane.
    detector : `int`
        Detector number.
    x, y : `numpy.ndarray`, shape (n,), float64 [pixels]
        Positions on the detector.

    Returns
    -------
    x_mm, y_mm : `numpy.ndarray`, shape (n,), float64 [mm]
    """
    definition = camera[detector]
    yaw = np.radians(definition.yaw_deg)
    u = (np.asarray(x, dtype=np.float64) - 0.5 * (definition.shape[1] - 1)) * definition.pixel_size_mm
    v = (np.asarray(y, dtype=np.float64) - 0.5 * (definition.shape[0] - 1)) * definition.pixel_size_mm
    return (
        definition.focal_plane_x_mm + np.cos(yaw) * u - np.sin(yaw) * v,
        definition.focal_plane_y_mm + np.sin(yaw) * u + np.cos(yaw) * v,
    )
