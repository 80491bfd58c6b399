from __future__ import annotations

import numpy as np
import pytest

from butler_dask.imaging.psf import Psf
from butler_dask.imaging.psf_images import kernel_spline, psf_images, psf_spline, render


def _varying(step):
    base = Psf.gaussian(1.8 / step, 41).coefficients[0]
    wider = Psf.gaussian(2.0 / step, 41).coefficients[0] - base
    return Psf(np.stack([base, 0.3 * wider, -0.2 * wider]), 1, (500.0, 400.0), (500.0, 400.0), step)


@pytest.mark.parametrize("step", [1.0, 0.5])
@pytest.mark.parametrize("centered", [True, False])
def test_many_images_equal_the_psfs_own(step, centered):
    psf = _varying(step)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 1000, 12), rng.uniform(0, 800, 12)
    images = psf_images(psf, x, y, centered=centered)
    expected = [psf.image_at(a, b, centered=centered) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(images, expected, atol=1e-7)


def test_derivatives_are_those_of_finite_differences():
    psf = _varying(1.0)
    kernel = kernel_spline(psf_spline(psf, 300.0, 200.0), 0)
    _, by_dx, by_dy = render(kernel, 0.3, -0.2, 12, 1.0, True)
    h = 1e-5
    right, _, _ = render(kernel, 0.3 + h, -0.2, 12, 1.0, False)
    left, _, _ = render(kernel, 0.3 - h, -0.2, 12, 1.0, False)
    up, _, _ = render(kernel, 0.3, -0.2 + h, 12, 1.0, False)
    down, _, _ = render(kernel, 0.3, -0.2 - h, 12, 1.0, False)
    np.testing.assert_allclose(by_dx, (right - left) / (2 * h), atol=1e-8)
    np.testing.assert_allclose(by_dy, (up - down) / (2 * h), atol=1e-8)
