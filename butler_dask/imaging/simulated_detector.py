"""SimulatedDetector: what a sensor and its electronics do to the light, with every parameter known.

The steps run in the order of nature, which is the reverse of instrument signature removal::

    photons x flat + dark current -> Poisson noise -> brighter-fatter -> full well and bleeding
    -> / gain [ADU] -> crosstalk -> non-linearity -> + bias structure, level and read noise -> 16 bits

Each fixed pattern is drawn from the seed and the detector's number alone, so it is the same in every exposure
and its truth can be asked for (`bias_adu`, `dark_electrons_s`, `flat`, `defects` ...).

Conventions shared with the corrections
---------------------------------------
Brighter-fatter: kernel K [1 / electron], negative for charge that repels, with ``observed = true - 0.5
div(true grad(K * true))``, ``*`` a convolution: the inverse of the correction of Coulton et al. 2018 (AJ 155,
258; doi:10.3847/1538-3881/aac08d, eq. 22) in `butler_dask.imaging.brighter_fatter`. Linearity and crosstalk:
see `Amplifier.linearity_coefficients` and `Detector.crosstalk`; crosstalk is added to linear signals in ADU.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from .crosstalk import add_crosstalk
from .detector import Amplifier, Detector, box_slices, readout_view


def brighter_fatter_kernel(size: int = 17, peak: float = -4.0e-7) -> NDArray[np.float64]:
    """Return a brighter-fatter kernel like those measured on thick sensors.

    Parameters
    ----------
    size : `int`
        Odd size [pixels].
    peak : `float`
        Central value [1 / electron]; -4e-7 makes a star at full well 1 % wider and 5 % lower.

    Returns
    -------
    kernel : `numpy.ndarray`, shape (size, size), float64 [1 / electrons]
    """
    r = np.arange(size) - size // 2
    radius = np.hypot(r[:, np.newaxis], r[np.newaxis, :])
    edge = 0.5 * (size - 1)
    taper = np.clip(1.0 - (radius / edge) ** 2, 0.0, 1.0) ** 2
    kernel: NDArray[np.float64] = peak * (1.0 + (radius / 1.2) ** 2) ** -0.8 * taper
    return kernel


def apply_brighter_fatter(image: NDArray[np.float32], kernel: NDArray[np.float64]) -> NDArray[np.float32]:
    """Displace charge as the charge already collected does.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), float32 [electrons]
        Charge without the effect.
    kernel : `numpy.ndarray`, shape (n, n), float64 [1 / electrons]
        K.

    Returns
    -------
    displaced : `numpy.ndarray`, shape (ny, nx), float32 [electrons]
        image - 0.5 div(image grad(K * image)).

    Notes
    -----
    The divergence is a sum over the faces of a pixel, so what leaves a pixel enters its neighbour and the sum
    is kept exactly, as charge is. (Central differences at the pixel's middle, as corrections usually have
    them, lose 0.2 % of a star near full well.)
    """
    from scipy.signal import oaconvolve

    # Constant charge has no gradient; taking the mean off keeps the array's edges from looking like one.
    level = np.float32(np.median(image[::16, ::16]))
    potential = oaconvolve(image - level, kernel.astype(np.float32), mode="same")
    displaced: NDArray[np.float32] = _displace(image, np.asarray(potential, dtype=np.float32))
    return displaced


@numba.njit(cache=True, nogil=True)
def _displace(image: NDArray[np.float32], potential: NDArray[np.float32]) -> NDArray[np.float32]:
    ny, nx = image.shape
    result = image.copy()
    for y in range(ny):
        for x in range(nx - 1):
            flow = (
                np.float32(-0.25) * (image[y, x] + image[y, x + 1]) * (potential[y, x + 1] - potential[y, x])
            )
            result[y, x] += flow
            result[y, x + 1] -= flow
    for y in range(ny - 1):
        for x in range(nx):
            flow = (
                np.float32(-0.25) * (image[y, x] + image[y + 1, x]) * (potential[y + 1, x] - potential[y, x])
            )
            result[y, x] += flow
            result[y + 1, x] -= flow
    return result


@numba.njit(cache=True, nogil=True)
def _bleed(image: NDArray[np.float32], full_well: NDArray[np.float32]) -> None:
    """Spill charge above the full well (shape (nx,), by column) half up and half down its column."""
    ny, nx = image.shape
    for x in range(nx):
        limit = full_well[x]
        for y in range(ny):
            if image[y, x] > limit:
                break
        else:
            continue
        excess = np.zeros(ny, dtype=np.float32)
        for y in range(ny):
            if image[y, x] > limit:
                excess[y] = np.float32(0.5) * (image[y, x] - limit)
                image[y, x] = limit
        for direction in range(2):
            carried = np.float32(0.0)
            for i in range(ny):
                y = i if direction == 0 else ny - 1 - i
                total = image[y, x] + carried + excess[y]
                carried = max(total - limit, np.float32(0.0))
                image[y, x] = min(total, limit)


@numba.njit(cache=True, nogil=True)
def _draw_tracks(
    image: NDArray[np.float32],
    hit: NDArray[np.bool_],
    tracks: NDArray[np.float64],
    deposits: NDArray[np.float64],
) -> None:
    """Draw straight tracks (x, y, angle, length a row), ``deposits`` electrons per pixel of length."""
    ny, nx = image.shape
    for n in range(tracks.shape[0]):
        x, y, angle, length = tracks[n, 0], tracks[n, 1], tracks[n, 2], tracks[n, 3]
        steps = max(int(length * 4.0), 1)
        for i in range(steps):
            px = int(np.rint(x + np.cos(angle) * length * i / steps))
            py = int(np.rint(y + np.sin(angle) * length * i / steps))
            if 0 <= px < nx and 0 <= py < ny:
                image[py, px] += deposits[n] * max(length, 0.25) / steps
                hit[py, px] = True


@dataclass(frozen=True)
class SimulatedDetector:
    """A detector with known flaws.

    Parameters
    ----------
    detector : `Detector`
        Geometry, gains, read noise, saturation, crosstalk.
    seed : `int`
        Fixed patterns follow from it and ``detector.id``.
    linearity : `bool`
        Whether the electronics are non-linear.
    kernel : `numpy.ndarray`, shape (n, n), float64 [1 / electrons], or None
        Brighter-fatter kernel; None for a sensor without the effect.
    crosstalk : `bool`
        Whether channels cross-talk.
    """

    detector: Detector
    seed: int = 1
    linearity: bool = True
    kernel: NDArray[np.float64] | None = field(default_factory=brighter_fatter_kernel)
    crosstalk: bool = True

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 77, self.detector.id, purpose])

    @cached_property
    def linearity_coefficients(self) -> dict[str, tuple[float, ...]]:
        """Correction polynomial of each amplifier: some 1 % at full scale."""
        if not self.linearity:
            return {a.name: () for a in self.detector.amplifiers}
        rng = self._rng(1)
        return {
            a.name: (
                float(rng.normal(2.0e-7, 5.0e-8)),
                float(rng.normal(1.0e-12, 5.0e-13)),
            )
            for a in self.detector.amplifiers
        }

    @cached_property
    def bias_adu(self) -> NDArray[np.float32]:
        """Two-dimensional bias structure above the overscan, assembled, shape (ny, nx), float32 [ADU]."""
        rng = self._rng(2)
        bias = np.zeros(self.detector.shape, dtype=np.float32)
        for amplifier in self.detector.amplifiers:
            view = readout_view(bias, amplifier)
            columns = np.arange(view.shape[1], dtype=np.float64)
            profile = rng.uniform(2.0, 5.0) * np.exp(-columns / rng.uniform(10.0, 40.0))
            profile += rng.normal(0.0, 0.3, columns.size)
            rows = np.linspace(-1.0, 1.0, view.shape[0])
            view += profile.astype(np.float32)
            view += (rng.uniform(-1.0, 1.0) * rows + rng.uniform(-0.5, 0.5) * rows**2).astype(np.float32)[
                :, np.newaxis
            ]
        return bias

    @cached_property
    def _flaws(self) -> tuple[list[tuple[int, int, int, int]], NDArray[np.int64], NDArray[np.float64]]:
        """Defect boxes; flat indices and rates [e-/s] of hot pixels."""
        rng = self._rng(3)
        ny, nx = self.detector.shape
        boxes = []
        for _ in range(max(2, nx // 400)):
            x, y = int(rng.integers(0, nx)), int(rng.integers(0, ny))
            boxes.append((x, y, 1, ny - y))  # a blocked column, from the trap to the far end
        for _ in range(max(3, nx * ny // 400_000)):
            width, height = (int(v) for v in rng.integers(2, 7, 2))
            boxes.append((int(rng.integers(0, nx - width)), int(rng.integers(0, ny - height)), width, height))
        count = int(nx * ny * 1e-4)
        where = rng.integers(0, nx * ny, count)
        rates = 10.0 ** rng.uniform(-0.3, 2.3, count)
        return boxes, where, rates

    @property
    def defects(self) -> list[tuple[int, int, int, int]]:
        """(x0, y0, width, height) of dead columns, dead spots and pixels hotter than 20 e-/s [pixels]."""
        boxes, where, rates = self._flaws
        nx = self.detector.shape[1]
        hot = np.unique(where[rates > 20.0])
        return [*boxes, *((int(i % nx), int(i // nx), 1, 1) for i in hot)]

    @cached_property
    def dark_electrons_s(self) -> NDArray[np.float32]:
        """Dark current, assembled, shape (ny, nx), float32 [e-/s]."""
        rng = self._rng(4)
        ny, nx = self.detector.shape
        y, x = np.linspace(-1, 1, ny)[:, np.newaxis], np.linspace(-1, 1, nx)[np.newaxis, :]
        dark = (0.05 * (1.0 + 0.3 * rng.uniform(-1, 1) * x + 0.3 * rng.uniform(-1, 1) * y)).astype(np.float32)
        # Glow of the output amplifiers, in the corners where they sit.
        for cx in (-1.0, 1.0):
            dark += (0.3 * np.exp(-((x - cx) ** 2 + (y + 1) ** 2) / 0.02)).astype(np.float32)
        _, where, rates = self._flaws
        np.add.at(dark.reshape(-1), where, rates.astype(np.float32))
        return dark

    def flat(self, band: str = "r") -> NDArray[np.float32]:
        """Return the relative sensitivity, assembled, of median 1.

        Parameters
        ----------
        band : `str`
            Vignetting and pixel response differ a little between bands.

        Returns
        -------
        flat : `numpy.ndarray`, shape (ny, nx), float32 [1]
        """
        rng = self._rng(5)
        ny, nx = self.detector.shape
        pixel = self.detector.pixel_size_mm
        yaw = np.radians(self.detector.yaw_deg)
        # Focal-plane radius on every pixel from two one-dimensional parts: |R p + c|^2 is separable.
        u = ((np.arange(nx) - 0.5 * (nx - 1)) * pixel)[np.newaxis, :]
        v = ((np.arange(ny) - 0.5 * (ny - 1)) * pixel)[:, np.newaxis]
        cx, cy = self.detector.focal_plane_x_mm, self.detector.focal_plane_y_mm
        along = 2 * (cx * np.cos(yaw) + cy * np.sin(yaw))
        across = 2 * (-cx * np.sin(yaw) + cy * np.cos(yaw))
        falloff = {"g": 1.1, "r": 1.0, "i": 0.95, "z": 0.92, "y": 0.9}.get(band, 1.0) * 0.12 / 250.0**2
        flat: NDArray[np.float32] = (1.0 - falloff * ((u**2 + along * u) + (v**2 + across * v))).astype(
            np.float32
        )
        response = rng.standard_normal(self.detector.shape, dtype=np.float32)
        response *= np.float32(0.006 if band != "g" else 0.008)
        response += np.float32(1.0)
        flat *= response
        for _ in range(max(3, nx * ny // 500_000)):
            x0, y0 = rng.uniform(0, nx), rng.uniform(0, ny)
            outer, depth = rng.uniform(15, 45), rng.uniform(0.005, 0.03)
            xs = slice(max(0, int(x0 - outer) - 3), min(nx, int(x0 + outer) + 4))
            ys = slice(max(0, int(y0 - outer) - 3), min(ny, int(y0 + outer) + 4))
            radius = np.hypot(
                np.arange(xs.start, xs.stop)[np.newaxis, :] - x0,
                np.arange(ys.start, ys.stop)[:, np.newaxis] - y0,
            )
            ring = 1.0 / (1.0 + np.exp((radius - outer) / 1.5)) - 0.7 / (
                1.0 + np.exp((radius - 0.45 * outer) / 1.5)
            )
            flat[ys, xs] *= (1.0 - depth * ring).astype(np.float32)
        for amplifier in self.detector.amplifiers:
            flat[box_slices(amplifier.box)] *= np.float32(rng.normal(1.0, 0.006))
        flat /= np.float32(np.median(flat[::4, ::4]))
        for box in self._flaws[0]:
            flat[box_slices(box)] *= np.float32(0.02)
        return flat

    def expose(
        self,
        light: NDArray[np.float32] | None,
        rng: np.random.Generator,
        *,
        exposure_time_s: float = 0.0,
        dark_time_s: float | None = None,
        band: str = "r",
        n_cosmic_rays: int = 0,
    ) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
        """Expose the detector and read it out.

        Parameters
        ----------
        light : `numpy.ndarray`, shape (ny, nx), float32 [electrons], or None
            Expectation for a perfectly flat detector; None for a closed shutter.
        rng : `numpy.random.Generator`
            Noise of this exposure.
        exposure_time_s, dark_time_s : `float`
            Dark current is collected for the dark time (the exposure time when not given) [s].
        band : `str`
            Selects the flat.
        n_cosmic_rays : `int`
            Cosmic rays hitting the detector.

        Returns
        -------
        raw : `numpy.ndarray`, shape `Detector.raw_shape`, uint16 [ADU]
            As the file has it.
        cosmic_rays : `numpy.ndarray`, shape (ny, nx), bool [1]
            Pixels hit, assembled.
        """
        detector = self.detector
        dark_time = exposure_time_s if dark_time_s is None else dark_time_s
        charge = np.zeros(detector.shape, dtype=np.float32) if light is None else light * self.flat(band)
        if dark_time > 0:
            charge += self.dark_electrons_s * np.float32(dark_time)
        charge = _poisson(charge, rng)
        hit = np.zeros(detector.shape, dtype=np.bool_)
        if n_cosmic_rays:
            _draw_tracks(charge, hit, *_cosmic_rays(n_cosmic_rays, detector.shape, rng))
        if self.kernel is not None and charge.any():
            charge = apply_brighter_fatter(charge, self.kernel)
        full_well = np.empty(detector.shape[1], dtype=np.float32)
        for amplifier in detector.amplifiers:
            x0, _, width, _ = amplifier.box
            # A little above what the camera file calls saturation, so that a full pixel is seen as one.
            full_well[x0 : x0 + width] = 1.03 * amplifier.saturation * amplifier.gain
        _bleed(charge, full_well)
        return self._read_out(charge, rng), hit

    def _read_out(self, charge: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint16]:
        """Turn charge [electrons] into the raw file's numbers; ``charge`` is used up."""
        detector = self.detector
        signal = charge
        for amplifier in detector.amplifiers:
            signal[box_slices(amplifier.box)] /= np.float32(amplifier.gain)
        if self.crosstalk and detector.crosstalk is not None:
            signal = add_crosstalk(signal, detector, detector.crosstalk)
        raw = rng.standard_normal(detector.raw_shape, dtype=np.float32)
        bias = self.bias_adu
        for n, amplifier in enumerate(detector.amplifiers):
            channel = raw[box_slices(amplifier.raw_box)]
            channel *= np.float32(amplifier.read_noise / amplifier.gain)
            rows = np.linspace(0.0, 1.0, channel.shape[0])
            level = 1000.0 + 37.0 * n + 2.0 * np.sin(5.0 * rows + n) + rng.normal(0.0, 0.5)
            channel += level.astype(np.float32)[:, np.newaxis]
            data = signal[box_slices(amplifier.box)]
            data = _delinearize(data, self.linearity_coefficients[amplifier.name])
            data += bias[box_slices(amplifier.box)]
            raw[box_slices(amplifier.raw_data_box)] += _mirrored(data, amplifier)
        np.rint(raw, out=raw)
        np.clip(raw, 0.0, 65535.0, out=raw)
        return raw.astype(np.uint16)

    def linearizer(self) -> dict[str, Any]:
        """Return the true ``linearizer`` dataset."""
        return {"amplifiers": {name: list(c) for name, c in self.linearity_coefficients.items()}}

    def crosstalk_dataset(self) -> dict[str, Any]:
        """Return the true ``crosstalk`` dataset."""
        n = len(self.detector.amplifiers)
        matrix = self.detector.crosstalk if self.crosstalk else None
        return {
            "amplifiers": [a.name for a in self.detector.amplifiers],
            "coefficients": (np.zeros((n, n)) if matrix is None else matrix).tolist(),
        }


def _mirrored(data: NDArray[np.float32], amplifier: Amplifier) -> NDArray[np.float32]:
    """Turn an assembled data section into the raw file's orientation."""
    if amplifier.flip_x:
        data = data[:, ::-1]
    return data[::-1] if amplifier.flip_y else data


def _delinearize(values: NDArray[np.float32], coefficients: tuple[float, ...]) -> NDArray[np.float32]:
    """Return what non-linear electronics read of linear values [ADU]: the inverse of the correction."""
    if not coefficients:
        return values.copy()
    read = values.copy()
    for _ in range(4):  # each step gains a factor of 50: the correction is 1 % at full scale
        term = np.zeros_like(read)
        for c in reversed(coefficients):
            term = (term + np.float32(c)) * read
        read = values - term * read
    return read


def _poisson(expected: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw Poisson numbers; above 50 a normal number of the same mean and variance, thirty times faster."""
    drawn = rng.standard_normal(expected.shape, dtype=np.float32)
    drawn *= np.sqrt(np.maximum(expected, np.float32(0.0)))
    drawn += expected
    few = expected < 50.0
    if few.any():
        drawn[few] = rng.poisson(np.maximum(expected[few], 0.0))
    return drawn


def _cosmic_rays(
    count: int, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw tracks: mostly short, some across tens of pixels; 300 to 6000 electrons per pixel of length."""
    length = rng.exponential(8.0, count)
    length[rng.random(count) < 0.25] = 0.5  # steep ones leave a single bright pixel
    tracks = np.stack(
        [
            rng.uniform(0, shape[1], count),
            rng.uniform(0, shape[0], count),
            rng.uniform(0, 2 * np.pi, count),
            length,
        ],
        axis=-1,
    )
    return tracks, 300.0 * 10.0 ** rng.uniform(0.3, 1.3, count)
