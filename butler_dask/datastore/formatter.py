"""Formatter: turns objects into the bytes of a file, and a file or a part of it into an object.

A formatter is a small class without state, found by its dotted name, which is recorded with each file: a
file is always read by the class that wrote it, even when a later version writes that storage class
otherwise.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Protocol

from ..errors import DatasetTypeError, ObjectTypeError, UnknownParameterError, did_you_mean
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dotted_name import dotted_name, import_by_name
from ..vocabulary.storage_class import StorageClass, find_storage_class
from .table_conversion import TABLE_CLASSES, is_table, table_as


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read of which file, as `Formatter.read` is given it (the reference's ``FileDescriptor``).

    Parameters
    ----------
    path : `str`
        Local file name; also a URL where the class has ``reads_urls = True``.
    storage_class : `str`
        Storage class the file was written as.
    component : `str`, optional
        Part to read; all if not given.
    parameters : mapping
        What the storage class allows: ``bbox``, ``columns``.
    root : `str`
        Root of the repository.
    data_id : mapping
        Data ID of the dataset.
    """

    path: str
    storage_class: str
    component: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    root: str = ""
    data_id: Mapping[str, Any] = field(default_factory=dict)


class FileReader(Protocol):
    """What is needed to read files (raws are never written)."""

    def read(self, request: ReadRequest) -> Any:
        """Read an object or a component of it.

        Parameters
        ----------
        request : `ReadRequest`
            What to read of which file.

        Raises
        ------
        OSError, ValueError, EOFError, KeyError
            If the file is damaged; the datastore adds which file and dataset.
        """
        ...


class Formatter(FileReader, Protocol):
    """What is needed to write and read files.

    A class of your own is named under ``formatters:`` in ``butler.yaml``, and made without arguments.

    Examples
    --------
    >>> class TextFormatter:
    ...     extension = ".txt"
    ...
    ...     def chunks(self, obj, storage_class):
    ...         yield obj.encode()
    ...
    ...     def read(self, request):
    ...         with open(request.path, encoding="utf-8") as stream:
    ...             return stream.read()
    """

    extension: ClassVar[str]
    """File extension with its dot."""

    def chunks(self, obj: Any, storage_class: str) -> Iterable[Any]:
        """Return the bytes of a file that holds an object.

        Parameters
        ----------
        obj : object
            What to write, of the storage class's Python type: the datastore has converted it.
        storage_class : `str`
            Storage class to write it as.

        Returns
        -------
        chunks : iterable of bytes-like
            In order; each is used before the next one is asked for, so the buffer may be the same.
        """
        ...


_PACKAGE = __package__
_EXPOSURE = f"{_PACKAGE}.fits_image.ExposureFormatter"
_DOCUMENT = f"{_PACKAGE}.document.DocumentFormatter"
_TABLE = f"{_PACKAGE}.fits_table.TableFormatter"
PARQUET_FORMATTER = f"{_PACKAGE}.parquet_table.ParquetFormatter"
_VALUE = f"{_PACKAGE}.document.ValueFormatter"

DEFAULT_FORMATTERS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "StructuredDataDict",
            "StructuredDataList",
            "StructuredData",
            "Integer",
            "Scalar",
            "Packages",
            "ButlerLogRecords",
        ),
        _DOCUMENT,
    ),
    **dict.fromkeys(
        (
            "TaskMetadata",
            "Wcs",
            "PhotoCalib",
            "VisitInfo",
            "Detector",
            "FilterLabel",
            "Camera",
            "SkyMap",
        ),
        _VALUE,
    ),
    "Config": f"{_PACKAGE}.document.ConfigFormatter",
    "NumpyArray": f"{_PACKAGE}.numpy_array.ArrayFormatter",
    "Background": f"{_PACKAGE}.numpy_array.NamedArraysFormatter",
    "Psf": f"{_PACKAGE}.numpy_array.NamedArraysFormatter",
    **dict.fromkeys(
        ("ArrowAstropy", "AstropyTable", "SourceCatalog", "SimpleCatalog", "Catalog", "Defects"), _TABLE
    ),
    **dict.fromkeys(("ArrowNumpy", "ArrowNumpyDict"), _TABLE),
    **dict.fromkeys(("ArrowTable", "DataFrame"), PARQUET_FORMATTER),
    **dict.fromkeys(("Exposure", "ExposureF", "ExposureI", "ExposureU", "ExposureD"), _EXPOSURE),
    "ImageF": f"{_PACKAGE}.fits_image.ImageFormatter",
    "Mask": f"{_PACKAGE}.fits_image.MaskFormatter",
    "Pickle": f"{_PACKAGE}.pickled_object.PickleFormatter",
}
"""Dotted name of the formatter that writes each storage class, where the repository does not say
otherwise."""


def formatter_name(formatter: Any) -> str:
    """Return the dotted name of a formatter given as name, class or instance."""
    if isinstance(formatter, str):
        return formatter
    return dotted_name(formatter if isinstance(formatter, type) else type(formatter))


@lru_cache(maxsize=256)
def load_formatter(name: str) -> Any:
    """Return a formatter by its dotted name.

    Raises
    ------
    DatasetTypeError
        If it cannot be imported, is no class, or its ``read`` does not take one `ReadRequest`.
    """
    found = import_by_name(name, "formatter", DatasetTypeError)
    # Nothing is called that only happens to have the name.
    if not isinstance(found, type) or not callable(getattr(found, "read", None)):
        raise DatasetTypeError(f"{name!r} is no formatter: it is not a class with a method read(request).")
    formatter = found()
    try:
        inspect.signature(formatter.read).bind("request")
    except (AttributeError, TypeError) as error:
        raise DatasetTypeError(
            f"The formatter {name!r} has no method read(request) ({error}); "
            "the request has path, storage_class, component, parameters, root and data_id."
        ) from error
    return formatter


def check_part(
    ref: DatasetRef, whole: StorageClass, component: str | None, parameters: Mapping[str, Any] | None
) -> None:
    """Raise unless a storage class has a component, and takes parameters.

    Raises
    ------
    DatasetTypeError
        If it has not; the nearest match is named.
    """
    for name in parameters or ():
        known = whole.parameters
        if name not in known:
            there = f"it takes: {', '.join(sorted(known))}" if known else "it takes none"
            raise UnknownParameterError(
                f"{ref.datasetType.name} has no parameter {name!r}.{did_you_mean(name, known)} ({there}.)"
            )
    if component is not None and component not in whole.components:
        raise DatasetTypeError(
            f"Dataset {ref} ({whole.name}) has no component {component!r}."
            f"{did_you_mean(component, whole.components)}"
        )


@lru_cache(maxsize=256)
def _python_type(storage_class: str) -> Any:
    # What a name means does not change; to look it up takes 4 us of a put.
    return find_storage_class(storage_class).pytype


def converted(obj: Any, to: str) -> Any:
    """Return an object as another storage class's Python type.

    Parameters
    ----------
    obj : object
        What there is.
    to : `str`
        Storage class name wanted.

    Raises
    ------
    DatasetTypeError
        If nothing converts between the two.
    """
    if to in TABLE_CLASSES:
        # Before the type itself is imported: its package may be missing, and the error says which.
        if is_table(obj) or (to == "ArrowAstropy" and isinstance(obj, Mapping)):
            return table_as(obj, to)
        if to != "ArrowAstropy":
            raise _no_conversion(obj, find_storage_class(to))
    pytype = _python_type(to)
    if pytype is object or isinstance(obj, pytype):
        return obj
    wanted = find_storage_class(to)
    convert = wanted.converter_from(type(obj))
    if convert is not None:
        return convert(obj)
    if wanted.pytype_name == "dict":
        for method in ("to_dict", "toDict", "to_json_dict"):
            if hasattr(obj, method):
                return getattr(obj, method)()
        if hasattr(obj, "colnames"):
            return {name: obj[name].tolist() for name in obj.colnames}
    elif wanted.pytype_name == "list" and isinstance(obj, (tuple, set, frozenset)):
        return list(obj)
    elif hasattr(pytype, "from_dict") and isinstance(obj, Mapping):
        return pytype.from_dict(obj)
    elif wanted.pytype_name == "astropy.table.Table" and (
        isinstance(obj, Mapping) or getattr(getattr(obj, "dtype", None), "names", None)
    ):
        return pytype(obj)
    elif wanted.pytype_name == "numpy.ndarray":
        for attribute in ("image", "array"):
            if isinstance(getattr(obj, attribute, None), pytype):
                return getattr(obj, attribute)
        if hasattr(obj, "as_array"):
            return obj.as_array()
    elif wanted.pytype_name.endswith(".Exposure") and getattr(obj, "ndim", 0) == 2:
        return pytype(obj)
    elif wanted.pytype_name == "int" and hasattr(obj, "__index__"):
        return int(obj)
    raise _no_conversion(obj, wanted)


def _no_conversion(obj: Any, wanted: StorageClass) -> ObjectTypeError:
    return ObjectTypeError(
        f"A {dotted_name(type(obj))} is no {wanted.name} ({wanted.pytype_name}), and nothing converts it."
    )
