"""A forward model of a detector, for tests: what isr has to undo, applied to known charge."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from butler_dask.imaging.crosstalk import add_crosstalk, crosstalk_matrix
from butler_dask.imaging.detector import Detector, box_slices
from butler_dask.imaging.exposure import Exposure, FilterLabel
from butler_dask.imaging.visit_info import VisitInfo
from butler_dask.instruments.instrument import Instrument


def small_detector(number: int = 5) -> Detector:
    return Instrument.from_camera_file("hsc_small").getCamera()[number]


@dataclass
class DetectorModel:
    """Charge [electrons, assembled frame] -> raw [ADU, raw frame]."""

    detector: Detector
    seed: int = 1
    level: float = 1000.0
    row_jitter: float = 0.0
    drift: float = 8.0
    bias: np.ndarray | None = None
    nonlinearity: dict[str, tuple[float, ...]] = field(default_factory=dict)
    has_crosstalk: bool = False
    read_noise: bool = True

    def raw(self, charge: np.ndarray, **visit_info) -> Exposure:
        random = np.random.default_rng(self.seed)
        detector = self.detector
        adu = charge.astype(np.float64)
        for amplifier in detector.amplifiers:
            adu[box_slices(amplifier.box)] /= amplifier.gain
        if self.has_crosstalk:
            adu = add_crosstalk(adu, detector, crosstalk_matrix(detector))
        for amplifier in detector.amplifiers:
            section = box_slices(amplifier.box)
            adu[section] = _measured(adu[section], self.nonlinearity.get(amplifier.name, ()))
        if self.bias is not None:
            adu += self.bias
        n_rows = detector.raw_shape[0]
        raw = np.zeros(detector.raw_shape)
        for n, amplifier in enumerate(detector.amplifiers):
            rows = self.level + 20.0 * n + self.drift * np.exp(-np.arange(n_rows) / 200.0)
            rows = rows + random.normal(0.0, self.row_jitter, n_rows)
            section = adu[box_slices(amplifier.box)]
            section = section[:, ::-1] if amplifier.flip_x else section
            raw[box_slices(amplifier.raw_data_box)] = section
            x0, y0, width, height = amplifier.raw_box
            raw[y0 : y0 + height, x0 : x0 + width] += rows[y0 : y0 + height, None]
            if self.read_noise:
                noise = random.normal(0.0, amplifier.read_noise / amplifier.gain, (height, width))
                raw[y0 : y0 + height, x0 : x0 + width] += noise
        return Exposure(
            np.clip(np.rint(raw), 0, 65535).astype(np.uint16),
            detector=detector,
            visit_info=VisitInfo(
                **{
                    "exposure_id": self.seed,
                    "exposure_time_s": 30.0,
                    "dark_time_s": 40.0,
                    "observation_type": "science",
                    "begin_tai": "2013-06-17T13:33:26",
                    "end_tai": "2013-06-17T13:33:56",
                    "instrument": "HSC",
                }
                | visit_info
            ),
            filter=FilterLabel("r", "HSC-R"),
        )

    def again(self, seed: int, **changes) -> DetectorModel:
        return replace(self, seed=seed, **changes)


def _measured(true: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """Invert x + sum c_k x^(k+2) = true by Newton's method."""
    x = true.copy()
    if not coefficients:
        return x
    for _ in range(8):
        value, slope = x.copy(), np.ones_like(x)
        for k, c in enumerate(coefficients):
            value += c * x ** (k + 2)
            slope += c * (k + 2) * x ** (k + 1)
        x -= (value - true) / slope
    return x


def star_charge(
    shape: tuple[int, int], *, sky: float = 1200.0, n_stars: int = 60, seed: int = 3
) -> np.ndarray:
    """Expected charge [electrons] of a sky with round stars, peaks 300 to 60,000."""
    random = np.random.default_rng(seed)
    image = np.full(shape, sky)
    y, x = np.mgrid[-15:16, -15:16]
    for peak in np.geomspace(300.0, 60_000.0, n_stars):
        cy, cx = random.uniform(20, np.array(shape) - 20)
        iy, ix = round(cy), round(cx)
        r2 = (y - (cy - iy)) ** 2 + (x - (cx - ix)) ** 2
        image[iy - 15 : iy + 16, ix - 15 : ix + 16] += peak * np.exp(-0.5 * r2 / 2.0**2)
    return image
