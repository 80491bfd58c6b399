"""Formatters of numpy arrays: ``.npy``, and ``.npz`` for values made of several named arrays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import DatasetTypeError
from ..vocabulary.storage_class import find_storage_class
from .formatter import ReadRequest
from .storage_root import open_stream

if TYPE_CHECKING:
    from ..imaging.psf import Psf


class ArrayFormatter:
    """Formatter of one array (NEP 1 format, version as numpy chooses)."""

    extension: ClassVar[str] = ".npy"
    reads_urls: ClassVar[bool] = True

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return header and pixels."""
        array = np.asarray(obj)
        if array.dtype.hasobject:
            raise DatasetTypeError(f"An array of Python objects (dtype {array.dtype}) cannot be written")
        # One buffer in memory order; an array that is neither C nor Fortran ordered is copied.
        if not array.flags.f_contiguous:
            array = np.ascontiguousarray(array)
        header = io.BytesIO()
        description = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_2_0(header, description)
        yield header.getvalue()
        if array.nbytes:
            flat = array.reshape(-1, order="C" if array.flags.c_contiguous else "F")
            yield flat.view(np.uint8).data

    def read(self, request: ReadRequest) -> Any:
        """Read an array."""
        with open_stream(request.path) as stream:
            return np.load(stream, allow_pickle=False)


class NamedArraysFormatter:
    """Formatter of values with ``to_arrays()`` and ``from_arrays(arrays)``, and of the PSF."""

    extension: ClassVar[str] = ".npz"
    reads_urls: ClassVar[bool] = True

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return an uncompressed zip archive of arrays."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = _psf_to_arrays(obj) if storage_class == "Psf" else obj.to_arrays()
        np.savez(stream, allow_pickle=False, **arrays)
        return (stream.getbuffer(),)

    def read(self, request: ReadRequest) -> Any:
        """Read a value."""
        try:
            with open_stream(request.path) as stream, np.load(stream, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except zipfile.BadZipFile as error:
            raise ValueError(f"not a whole archive of arrays: {error}") from error
        pytype: Any = find_storage_class(request.storage_class).pytype
        if request.storage_class == "Psf":
            return _psf_from_arrays(pytype, arrays)
        return pytype.from_arrays(arrays)


def _psf_to_arrays(psf: Psf) -> dict[str, Any]:
    return {
        "coefficients": psf.coefficients,
        "degree": np.array(psf.degree),
        "center": np.array(psf.center, dtype=np.float64),
        "scale": np.array(psf.scale, dtype=np.float64),
        "step": np.array(psf.step, dtype=np.float64),
    }


def _psf_from_arrays(psf: type[Psf], arrays: Mapping[str, Any]) -> Psf:
    center, scale = arrays["center"].tolist(), arrays["scale"].tolist()
    return psf(
        arrays["coefficients"],
        int(arrays["degree"]),
        (center[0], center[1]),
        (scale[0], scale[1]),
        float(arrays["step"]),
    )
