"""Raw frames: from a raw FITS file to an `Exposure`, given the repository's camera file.

Pixels stay as the file has them (uint16 where the file does); isr converts. World coordinates, visit info,
filter and detector are predicted from the header and the camera, and can be read without the pixels.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetFileError
from ..imaging.camera import Camera
from ..imaging.detector import Detector, box_slices
from ..imaging.exposure import Exposure, FilterLabel
from ..imaging.mask import Mask
from .instrument import repository_camera
from .raw_headers import RawFacts, translate_header

_COMMENTARY = ("COMMENT", "HISTORY", "")


class RawFormatter:
    """Reader of the ``raw`` dataset type: one detector's file of one exposure.

    Raws are ingested as they come from the telescope, never written.
    """

    extension: ClassVar[str] = ".fits"

    def read(
        self,
        path: str,
        *,
        storage_class: str = "Exposure",
        component: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        root: str = "",
        data_id: Mapping[str, Any] | None = None,
    ) -> Any:
        """Read a raw file or one component of it.

        Parameters
        ----------
        path : `str`
            Local file, FITS, gzipped or not.
        storage_class : `str`
            Not used; raws are exposures.
        component : `str`, optional
            wcs, visitInfo, detector, filter, metadata, image, mask, variance, bbox or xy0.
        parameters : mapping, optional
            ``bbox``: (x0, y0, width, height) of the raw pixels wanted.
        root : `str`
            Root of the repository, which holds the camera file.
        data_id : mapping
            Names the instrument.

        Raises
        ------
        DatasetFileError
            If the file is truncated, not FITS or of another shape than the camera says; names the file.
        """
        camera = repository_camera(root, str((data_id or {})["instrument"]))
        if component in (None, "image", "mask", "variance"):
            exposure = _cut(read_raw(path, camera), (parameters or {}).get("bbox"))
            return exposure if component is None else getattr(exposure, component)
        header = read_raw_header(path, camera)
        facts = translate_header(header, camera, path=path)
        detector = _detector_of(facts, header, camera)
        if component == "wcs":
            return _initial_wcs(facts, detector, camera)
        if component in ("visitInfo", "visit_info"):
            return facts.visit_info()
        if component == "detector":
            return detector
        if component == "filter":
            return _filter_label(facts, camera)
        if component == "metadata":
            return _metadata(header)
        if component == "bbox":
            return [0, 0, detector.raw_shape[1], detector.raw_shape[0]]
        if component == "xy0":
            return [0, 0]
        if component in ("psf", "photoCalib", "photo_calib"):
            return None
        if component in ("apCorrMap", "ap_corr", "summaryStats", "summary_stats"):
            return {}
        raise DatasetFileError(f"A raw has no component {component!r}: {path}")


def read_raw(path: str | os.PathLike[str], camera: Camera) -> Exposure:
    """Read a raw file.

    Parameters
    ----------
    path : path-like
        Local FITS file, gzipped or not.
    camera : `Camera`
        Camera of the instrument that took it.

    Returns
    -------
    exposure : `Exposure`
        Raw pixels [ADU] in the file's own number type (uint16 mostly), nothing trimmed; ``wcs`` is that of
        the assembled detector.

    Raises
    ------
    DatasetFileError
        If the file cannot be read whole, or its shape is not the camera's.
    RawIngestError
        If its header cannot be understood.
    """
    path = os.fspath(path)
    header, image = _read_hdu(path, camera, pixels=True)
    assert image is not None
    facts = translate_header(header, camera, path=path)
    detector = _detector_of(facts, header, camera)
    if image.shape != detector.raw_shape:
        raise DatasetFileError(
            f"{path}: the image has shape {image.shape}, but raw files of detector {detector.id} of "
            f"{camera.name} have {detector.raw_shape}. "
            "If it was binned or windowed, the camera file must say so."
        )
    return Exposure(
        image,
        wcs=_initial_wcs(facts, detector, camera),
        detector=detector,
        visit_info=facts.visit_info(),
        filter=_filter_label(facts, camera),
        metadata=_metadata(header),
    )


def read_raw_header(path: str | os.PathLike[str], camera: Camera | None = None) -> Any:
    """Read the header of a raw file without its pixels.

    Parameters
    ----------
    path : path-like
        Local FITS file.
    camera : `Camera`, optional
        Says which HDU; the first when not given.

    Raises
    ------
    DatasetFileError
        If it is not FITS.
    """
    return _read_hdu(os.fspath(path), camera, pixels=False)[0]


def _read_hdu(path: str, camera: Camera | None, *, pixels: bool) -> tuple[Any, NDArray[Any] | None]:
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    number = int(camera.raw.get("hdu", 0)) if camera is not None else 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # untidy cards; a short file fails below
            with fits.open(path, memmap=False, do_not_scale_image_data=True, lazy_load_hdus=True) as hdus:
                hdu = hdus[number]
                header = hdu.header
                if not pixels:
                    return header.copy(), None
                data = hdu.data
    except FileNotFoundError:
        raise DatasetFileError(f"No such raw file: {path}") from None
    except (OSError, EOFError, TypeError, ValueError, IndexError, zlib.error) as error:
        raise DatasetFileError(f"{path} is truncated or not a FITS file: {error}") from error
    if data is None or data.ndim != 2:
        raise DatasetFileError(f"{path}: HDU {number} holds no two-dimensional image")
    return header, _physical_pixels(data, header)


def _physical_pixels(data: NDArray[Any], header: Any) -> NDArray[Any]:
    """Apply BZERO and BSCALE; unsigned 16-bit integers, the usual case, stay integers and cost one pass."""
    zero, scale = float(header.get("BZERO", 0.0)), float(header.get("BSCALE", 1.0))
    if data.dtype == np.dtype(">i2") and zero == 32768.0 and scale == 1.0:
        native = data.astype(np.int16).view(np.uint16)
        native ^= np.uint16(0x8000)
        return native
    native = data.astype(data.dtype.newbyteorder("="), copy=False)
    if (zero, scale) == (0.0, 1.0):
        return native
    return (native * np.float32(scale) + np.float32(zero)).astype(np.float32, copy=False)


def _detector_of(facts: RawFacts, header: Any, camera: Camera) -> Detector:
    """Return the detector, its gains replaced by those of the header where the camera file says so."""
    detector = camera[facts.detector]
    keyword = camera.raw.get("gain_keyword")
    if not keyword:
        return detector
    amplifiers = tuple(
        replace(amplifier, gain=float(header.get(keyword.format(n=n), 0.0)) or amplifier.gain)
        for n, amplifier in enumerate(detector.amplifiers, start=1)
    )
    return replace(detector, amplifiers=amplifiers)


def _cut(exposure: Exposure, box: Any) -> Exposure:
    if box is None:
        return exposure
    section = box_slices((int(box[0]), int(box[1]), int(box[2]), int(box[3])))
    return replace(
        exposure,
        image=exposure.image[section],
        mask=Mask(exposure.mask.array[section], exposure.mask.planes),
        variance=exposure.variance[section],
        xy0=(int(box[0]), int(box[1])),
    )


def _initial_wcs(facts: RawFacts, detector: Detector, camera: Camera) -> Any:
    if not facts.has_pointing or facts.observation_type in ("bias", "dark"):
        return None
    return camera.initial_wcs(detector, facts.ra_deg, facts.dec_deg, facts.rotation_deg)


def _filter_label(facts: RawFacts, camera: Camera) -> FilterLabel:
    band = camera.filter(facts.physical_filter).band or facts.physical_filter
    return FilterLabel(band=band, physical=facts.physical_filter)


def _metadata(header: Any) -> dict[str, Any]:
    """Return the cards as plain values; commentary as one text each."""
    result: dict[str, Any] = {}
    for card in header.cards:
        if card.keyword in _COMMENTARY:
            continue
        value = card.value
        result[card.keyword] = value if isinstance(value, (str, int, float, bool)) else str(value)
    return result
