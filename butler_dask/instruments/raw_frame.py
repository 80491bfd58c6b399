"""Raw frames: from a raw FITS file to an `Exposure`, given the repository's camera file.

Pixels stay as the file has them (uint16 where the file does); isr converts. World coordinates, visit info,
filter and detector are predicted from the header and the camera, and can be read without the pixels.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, BinaryIO, ClassVar

from numpy.typing import NDArray

from ..datastore.fits_hdu import HeaderDataUnit, read_image, scan_units
from ..datastore.formatter import ReadRequest
from ..datastore.storage_root import open_stream
from ..errors import UNREADABLE, DatasetFileError
from ..imaging.camera import Camera
from ..imaging.detector import Detector, box_slices
from ..imaging.exposure import Exposure, FilterLabel
from ..imaging.mask import Mask
from .camera_files import repository_camera
from .raw_headers import RawFacts, translate_header

_COMMENTARY = ("COMMENT", "HISTORY", "")


class RawFormatter:
    """Reader of the ``raw`` dataset type: one detector's file of one exposure.

    Raws are ingested as they come from the telescope, never written.
    """

    extension: ClassVar[str] = ".fits"
    reads_urls: ClassVar[bool] = True

    def read(self, request: ReadRequest) -> Any:
        """Read a raw file or one component of it.

        Parameters
        ----------
        request : `ReadRequest`
            The file is FITS, gzipped or not. Its root holds the camera file of the instrument its data ID
            names. Components are wcs, visitInfo, detector, filter, metadata, image, mask, variance, bbox and
            xy0; parameter ``bbox`` is (x0, y0, width, height) of the raw pixels wanted.

        Raises
        ------
        DatasetFileError
            If the file is truncated, not FITS or of another shape than the camera says; names the file.
        """
        path, component = request.path, request.component
        camera = repository_camera(request.root, str(request.data_id["instrument"]))
        if component in (None, "image", "mask", "variance"):
            exposure = _section(read_raw(path, camera), request.parameters.get("bbox"))
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
            return header
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
        metadata=header,
    )


def read_raw_header(path: str | os.PathLike[str], camera: Camera | None = None) -> dict[str, Any]:
    """Read the header of a raw file without its pixels.

    Parameters
    ----------
    path : path-like
        FITS file, gzipped or not.
    camera : `Camera`, optional
        Says which HDU; the first when not given.

    Returns
    -------
    header : `dict`
        Values by keyword (``ESO DET ID`` for a HIERARCH card); those of the first HDU too.

    Raises
    ------
    DatasetFileError
        If it is not FITS, or ends before its data do.
    """
    return _read_hdu(os.fspath(path), camera, pixels=False)[0]


def _read_hdu(
    path: str, camera: Camera | None, *, pixels: bool
) -> tuple[dict[str, Any], NDArray[Any] | None]:
    number = int(camera.raw.get("hdu", 0)) if camera is not None else 0
    try:
        with _open_unpacked(path) as stream:
            units = scan_units(stream)
            unit = _image_unit(units, number)
            header = units[0].values | unit.values
            if unit.values.get("ZIMAGE"):
                return _read_compressed(stream, number, header, pixels=pixels)
            return header, read_image(stream, unit) if pixels else None
    except FileNotFoundError:
        raise DatasetFileError(f"No such raw file: {path}") from None
    except (OSError, EOFError, zlib.error, *UNREADABLE) as error:
        raise DatasetFileError(f"{path} is truncated or not a raw FITS file: {error}") from error


def _image_unit(units: Sequence[HeaderDataUnit], number: int) -> HeaderDataUnit:
    if number >= len(units):
        raise ValueError(f"it has {len(units)} HDUs; by the camera file the image is in number {number}")
    unit = units[number]
    if len(unit.shape) != 2:
        raise ValueError(f"HDU {number} has {len(unit.shape)} axes, not the two of an image")
    return unit


def _open_unpacked(path: str) -> BinaryIO:
    """Open a file or URL, unpacked in memory if it is gzipped."""
    stream = open_stream(path)
    if stream.read(2) != b"\x1f\x8b":
        stream.seek(0)
        return stream
    with stream:
        stream.seek(0)
        return io.BytesIO(gzip.decompress(stream.read()))


def _read_compressed(
    stream: BinaryIO, number: int, header: dict[str, Any], *, pixels: bool
) -> tuple[dict[str, Any], NDArray[Any] | None]:
    """Read a tile-compressed image (FITS standard 4.0, section 10), which astropy unpacks."""
    from astropy.io import fits  # seldom needed: most raws are not compressed by tiles

    stream.seek(0)
    with fits.open(stream) as hdus:
        hdu = hdus[number]
        cards = header | {c.keyword: c.value for c in hdu.header.cards if c.keyword not in _COMMENTARY}
        if not pixels:
            return cards, None
        data = hdu.data
        return cards, data.astype(data.dtype.newbyteorder("="))


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


def _section(exposure: Exposure, box: Any) -> Exposure:
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
