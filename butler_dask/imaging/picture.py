"""Pictures of exposures: what `butler display` draws.

A picture is a matplotlib figure made without pyplot, so it needs no display and may be drawn in any thread. A
detector has more pixels than a screen: image and mask are reduced by whole factors first, the image by block
averages (so noise falls and the stretch shows faint things), the mask by the OR of a block (so no flagged
pixel vanishes). Limits are those of IRAF's and DS9's zscale, as astropy has it; the asinh stretch is that of
Lupton et al. (2004, PASP 116, 133; doi:10.1086/382245).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import did_you_mean
from .detector import Box
from .exposure import Exposure
from .mask import Mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRETCHES = ("asinh", "zscale", "minmax", "log", "sqrt")
"""How pixel values become shades: ``zscale`` and ``minmax`` are linear between their limits, the others
compress bright values."""

MASK_COLORS: Mapping[str, str] = {
    "BAD": "#e41a1c",
    "SAT": "#4daf4a",
    "INTRP": "#1b9e77",
    "CR": "#ff7f00",
    "EDGE": "#ffd92f",
    "DETECTED": "#3b8bd8",
    "DETECTED_NEGATIVE": "#00d5e8",
    "SUSPECT": "#b3a13c",
    "NO_DATA": "#984ea3",
    "CROSSTALK": "#e78ac3",
    "UNMASKEDNAN": "#ff00ff",
    "NOT_DEBLENDED": "#a6d854",
    "VIGNETTED": "#8d6e63",
    "CLIPPED": "#fb9a99",
    "SENSOR_EDGE": "#c2a500",
    "INEXACT_PSF": "#666666",
}
"""Colour of each mask plane."""


def zscale_limits(image: NDArray[Any], contrast: float = 0.25) -> tuple[float, float]:
    """Return display limits about the background, as IRAF and DS9 choose them.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), any number type [any unit]
        Pixels that are not finite are left out.
    contrast : `float`
        Smaller is wider.
    """
    from astropy.visualization import ZScaleInterval

    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = ZScaleInterval(contrast=contrast).get_limits(finite)
    if not high > low:
        low, high = float(finite.min()), float(finite.max())
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)


def block_reduced(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Average blocks of factor x factor pixels; pixels that are not finite are left out of the mean.

    Parameters
    ----------
    image : `numpy.ndarray`, shape (ny, nx), any number type [any unit]
        Pixels.
    factor : `int`
        Block size; rows and columns beyond the last whole block are dropped.

    Returns
    -------
    reduced : `numpy.ndarray`, shape (ny // factor, nx // factor), float32 [unit of the image]
        NaN where a block has no finite pixel.
    """
    if factor == 1:
        return np.asarray(image, dtype=np.float32)
    ny, nx = image.shape[0] // factor, image.shape[1] // factor
    blocks = np.asarray(image[: ny * factor, : nx * factor], dtype=np.float32)
    blocks = blocks.reshape(ny, factor, nx, factor)
    good = np.isfinite(blocks)
    count = good.sum(axis=(1, 3))
    total = np.where(good, blocks, 0.0).sum(axis=(1, 3), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count > 0, total / count, np.nan), dtype=np.float32)


def _block_reduced_mask(mask: NDArray[np.int32], factor: int) -> NDArray[np.int32]:
    if factor == 1:
        return mask
    ny, nx = mask.shape[0] // factor, mask.shape[1] // factor
    blocks = mask[: ny * factor, : nx * factor].reshape(ny, factor, nx, factor)
    reduced: NDArray[np.int32] = np.bitwise_or.reduce(np.bitwise_or.reduce(blocks, axis=3), axis=1)
    return reduced


@dataclass(frozen=True, slots=True)
class PictureStyle:
    """How a picture looks, whatever it shows.

    Parameters
    ----------
    color_map : `str`
        A matplotlib colour map.
    mask_opacity : `float`
        0 (invisible) to 1.
    source_radius_pixels : `float`
        Radius of the circles about sources [pixels].
    max_pixels : `int`
        Longest side drawn; larger images are reduced by a whole factor.
    size_inches : `float`
        Longest side of the figure.
    """

    color_map: str = "gray"
    mask_opacity: float = 0.45
    source_radius_pixels: float = 12.0
    max_pixels: int = 1200
    size_inches: float = 9.0


@dataclass(frozen=True, slots=True)
class _Cutout:
    """The part of an image that is drawn, and where it lies in the parent frame."""

    image: NDArray[Any]
    mask: Mask | None
    xy0: tuple[int, int]

    @classmethod
    def of(cls, exposure: Exposure | NDArray[Any], bbox: Box | None) -> _Cutout:
        if isinstance(exposure, Exposure):
            whole = cls(exposure.image, exposure.mask, exposure.xy0)
        else:
            whole = cls(np.asarray(exposure), None, (0, 0))
        if whole.image.ndim != 2:
            raise ValueError(
                f"A picture is drawn of an image with two axes, not of shape {whole.image.shape!r}"
            )
        return whole if bbox is None else whole._within(bbox)

    def _within(self, bbox: Box) -> _Cutout:
        x0, y0 = max(bbox[0] - self.xy0[0], 0), max(bbox[1] - self.xy0[1], 0)
        rows = slice(y0, max(bbox[1] - self.xy0[1] + bbox[3], 0))
        columns = slice(x0, max(bbox[0] - self.xy0[0] + bbox[2], 0))
        if self.image[rows, columns].size == 0:
            ny, nx = self.image.shape
            raise ValueError(
                f"The box {bbox} holds no pixel of the image, which has {nx} x {ny} pixels from {self.xy0}"
            )
        mask = None if self.mask is None else Mask(self.mask.array[rows, columns], self.mask.planes)
        return _Cutout(self.image[rows, columns], mask, (self.xy0[0] + x0, self.xy0[1] + y0))


def draw_exposure(
    exposure: Exposure | NDArray[Any],
    path: str | PathLike[str] | None = None,
    *,
    title: str = "",
    stretch: str = "asinh",
    limits: tuple[float, float] | None = None,
    mask_planes: Sequence[str] | None = None,
    sources: Any = None,
    bbox: Box | None = None,
    unit: str | None = None,
    style: PictureStyle | None = None,
) -> Figure:
    """Draw an exposure or image.

    Parameters
    ----------
    exposure : `Exposure` or `numpy.ndarray`, shape (ny, nx), any number type [any unit]
        What to draw.
    path : path-like, optional
        File to write, as `write_picture` does.
    title : `str`
        Title of the picture.
    stretch : `str`
        One of `STRETCHES`.
    limits : `tuple` [`float`, `float`], optional
        Values drawn black and white; chosen by zscale about the background when not given, with the upper
        one raised for the stretches that compress bright values.
    mask_planes : sequence of `str`, optional
        Planes to overlay; ``["all"]``: all that are set somewhere; when not given, the same but DETECTED;
        empty or ``["none"]``: none.
    sources : table, optional
        Positions to mark with circles: a table with ``base_SdssCentroid_x/_y`` or ``x``/``y``, or an array
        of shape (n, 2) [pixels of the array]. Sky sources of a table are left out: there is nothing there.
    bbox : `tuple`, optional
        (x0, y0, width, height) of the part to draw, in the parent frame [pixels].
    unit : `str`, optional
        Unit written at the colour bar; the exposure's BUNIT when not given.
    style : `PictureStyle`, optional
        Colours and sizes.

    Returns
    -------
    figure : `matplotlib.figure.Figure`
        Not shown; see `write_picture`.

    Raises
    ------
    ValueError
        If the stretch or a mask plane does not exist (the nearest name is given), or the box lies outside.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    style = style or PictureStyle()
    if stretch not in STRETCHES:
        raise ValueError(f"No stretch {stretch!r}: {list(STRETCHES)}.{did_you_mean(stretch, STRETCHES)}")
    if unit is None:
        unit = str(exposure.metadata.get("BUNIT", "")) if isinstance(exposure, Exposure) else ""
    array_xy0 = exposure.xy0 if isinstance(exposure, Exposure) else (0, 0)
    drawn = _Cutout.of(exposure, bbox)
    ny, nx = drawn.image.shape
    factor = max(1, -(-max(ny, nx) // style.max_pixels))
    small = block_reduced(drawn.image, factor)
    norm = _normalization(small, stretch, limits)
    # Edges of the drawn pixels in the parent frame; pixel centres are at integers.
    left, bottom = drawn.xy0[0] - 0.5, drawn.xy0[1] - 0.5
    extent = (left, left + small.shape[1] * factor, bottom, bottom + small.shape[0] * factor)

    aspect, size = nx / ny, style.size_inches
    width, height = (size, size / aspect) if aspect > 1 else (size * aspect, size)
    figure = Figure(
        figsize=(max(width, 4.0) + (3.2 if drawn.mask is not None else 1.6), max(height, 3.0) + 0.9),
        layout="constrained",
    )
    axes = figure.add_subplot()
    shades = colormaps[style.color_map].with_extremes(bad="#302038")
    axes.imshow(small, origin="lower", extent=extent, cmap=shades, norm=norm, interpolation="nearest")
    legend = []
    if drawn.mask is not None:
        planes = _planes_to_draw(drawn.mask, mask_planes)
        legend = _draw_mask(axes, drawn.mask, planes, factor, extent, style.mask_opacity)
    if sources is not None:
        x, y = (v + o for v, o in zip(_positions(sources), array_xy0, strict=True))
        _draw_circles(axes, x, y, style.source_radius_pixels)
        axes.set_xlim(extent[0], extent[1])
        axes.set_ylim(extent[2], extent[3])
    axes.set_xlabel("x [pixels]")
    axes.set_ylabel("y [pixels]")
    axes.tick_params(labelsize=8)
    if title:
        axes.set_title(title, fontsize=10)
    stretch_and_unit = f"{stretch}{f', {unit}' if unit else ''}"
    _add_colour_bar_and_legend(axes, norm, shades, stretch_and_unit, legend, max(1.0, 1.0 / aspect))
    if path is not None:
        write_picture(figure, path)
    return figure


def _draw_mask(
    axes: Any,
    mask: Mask,
    planes: Sequence[str],
    factor: int,
    extent: tuple[float, float, float, float],
    opacity: float,
) -> list[Any]:
    """Lay the planes over the picture; return the entries of the legend."""
    from matplotlib.patches import Patch

    legend = []
    bits = _block_reduced_mask(mask.array, factor)
    for plane in planes:
        where = (bits & mask.bitmask(plane)) != 0
        color = MASK_COLORS.get(plane, "#ffffff")
        fraction = float(np.count_nonzero(mask.array & mask.bitmask(plane))) / mask.array.size
        if where.any():
            layer = _colour_layer(where, color, opacity)
            axes.imshow(layer, origin="lower", extent=extent, interpolation="nearest")
        legend.append(Patch(facecolor=color, label=f"{plane}  {_percentage(fraction)}"))
    return legend


def _add_colour_bar_and_legend(
    axes: Any, norm: Any, shades: Any, label: str, legend: list[Any], widening: float
) -> None:
    """Add both at the right; ``widening`` keeps them as wide beside a narrow picture."""
    from matplotlib.cm import ScalarMappable

    # An inset keeps the bar as high as the picture, whatever the picture's shape.
    bar_width = 0.03 * widening
    bar_axes = axes.inset_axes((1.0 + 0.5 * bar_width, 0.0, bar_width, 1.0))
    bar = axes.figure.colorbar(
        ScalarMappable(norm=norm, cmap=shades), cax=bar_axes, extend="both", extendfrac=0.02
    )
    bar.ax.tick_params(labelsize=8)
    bar.set_label(label, fontsize=8)
    if legend:
        axes.legend(
            handles=legend,
            loc="upper left",
            bbox_to_anchor=(1.0 + 1.5 * bar_width + 0.09 * widening, 1.0),
            borderaxespad=0.0,
            fontsize=8,
            title="mask planes",
            title_fontsize=8,
            alignment="left",
            frameon=False,
        )


def write_picture(figure: Figure, path: str | PathLike[str], *, dpi: int = 110) -> None:
    """Write a figure to a file; the ending says which format (png, pdf, svg).

    Parameters
    ----------
    figure : `matplotlib.figure.Figure`
        As `draw_exposure` returns.
    path : path-like
        Local file.
    dpi : `int`
        Resolution [dots per inch].
    """
    figure.savefig(path, dpi=dpi, bbox_inches="tight", pad_inches=0.1)


def _normalization(image: NDArray[np.float32], stretch: str, limits: tuple[float, float] | None) -> Any:
    from matplotlib.colors import LogNorm, Normalize, PowerNorm

    low, high = limits if limits is not None else zscale_limits(image)
    if stretch == "minmax" and limits is None and np.isfinite(image).any():
        low, high = float(np.nanmin(image)), float(np.nanmax(image))
    if stretch in ("zscale", "minmax"):
        return Normalize(low, high)
    if limits is None:
        finite = image[np.isfinite(image)]
        if finite.size:
            # Leave room for stars: these stretches show both them and the background.
            high = max(high, float(np.percentile(finite, 99.9)))
    if stretch == "asinh":
        middle, width = low, max((zscale_limits(image)[1] - low) / 3.0, 1e-6 * max(abs(high), 1.0))
        return _shifted_asinh(middle, width, low, high)
    if stretch == "sqrt":
        return PowerNorm(0.5, low, high)
    floor = low if low > 0 else max(high * 1e-4, 1e-6)
    return LogNorm(floor, max(high, floor * 10.0))


def _shifted_asinh(middle: float, width: float, low: float, high: float) -> Any:
    """Return an asinh norm that is linear about the background rather than about zero."""
    from matplotlib.colors import FuncNorm

    return FuncNorm(
        (
            lambda v: np.arcsinh((np.asarray(v) - middle) / width),
            lambda v: np.sinh(np.asarray(v)) * width + middle,
        ),
        vmin=low,
        vmax=high,
    )


def _planes_to_draw(mask: Mask, wanted: Sequence[str] | None) -> list[str]:
    if wanted is not None and list(wanted) == ["none"]:
        return []
    if wanted is None or list(wanted) == ["all"]:
        present = int(np.bitwise_or.reduce(mask.array, axis=None))
        return [
            p
            for p, b in sorted(mask.planes.items(), key=lambda i: i[1])
            if present >> b & 1 and (p != "DETECTED" or wanted)
        ]
    for plane in wanted:
        if plane not in mask.planes:
            near = did_you_mean(plane, mask.planes)
            raise ValueError(f"No mask plane {plane!r}; there are {sorted(mask.planes)}.{near}")
    return list(wanted)


def _colour_layer(where: NDArray[np.bool_], color: str, opacity: float) -> NDArray[np.float32]:
    from matplotlib.colors import to_rgb

    layer = np.zeros((*where.shape, 4), dtype=np.float32)
    layer[where] = (*to_rgb(color), opacity)
    return layer


def _percentage(fraction: float) -> str:
    return f"{100 * fraction:.1f} %" if fraction >= 1e-3 else f"{100 * fraction:.3g} %"


def _positions(sources: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    columns = getattr(sources, "colnames", ())
    if "sky_source" in columns:
        sources = sources[~np.asarray(sources["sky_source"], dtype=bool)]
    for x, y in (("base_SdssCentroid_x", "base_SdssCentroid_y"), ("x", "y")):
        if x in columns and y in columns:
            return np.asarray(sources[x], dtype=np.float64), np.asarray(sources[y], dtype=np.float64)
    positions = np.empty(0) if columns else np.asarray(sources, dtype=np.float64)
    if positions.ndim != 2 or positions.shape[1] != 2:
        raise ValueError(
            "Sources are a table with columns base_SdssCentroid_x/_y or x/y, or an array of shape (n, 2), "
            f"not {type(sources).__name__} with {list(columns) or positions.shape}"
        )
    return positions[:, 0], positions[:, 1]


def _draw_circles(axes: Any, x: NDArray[np.float64], y: NDArray[np.float64], radius: float) -> None:
    from matplotlib.collections import EllipseCollection

    ok = np.isfinite(x) & np.isfinite(y)
    offsets = np.stack([x[ok], y[ok]], axis=-1)
    size = np.full(len(offsets), 2.0 * radius)
    axes.add_collection(
        EllipseCollection(
            size, size, np.zeros(len(offsets)), units="xy", offsets=offsets,
            offset_transform=axes.transData, facecolors="none", edgecolors="#ff4d4d", linewidths=0.7,
        )
    )  # fmt: skip
