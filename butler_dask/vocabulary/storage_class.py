"""StorageClass: what kind of Python object a dataset is, and which parts of it can be read alone."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import DatasetTypeError, did_you_mean


@dataclass(frozen=True, slots=True)
class StorageClass:
    """A kind of Python object.

    Parameters
    ----------
    name : `str`
        As in dataset type definitions (``ExposureF``).
    pytype_name : `str`
        Dotted name of the Python type.
    components : mapping of `str` to `str`
        Storage class name of each part that can be read alone.
    parameters : `frozenset` [`str`]
        Parameters ``Butler.get`` takes.
    converters : mapping of `str` to `str`
        By dotted name of another Python type: dotted name of the function (or method of the type) that makes
        an object of this kind of one.
    """

    name: str
    pytype_name: str = "object"
    components: Mapping[str, str] = field(default_factory=dict, hash=False)
    parameters: frozenset[str] = frozenset()
    converters: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def pytype(self) -> type:
        """The Python type, imported when asked for.

        Raises
        ------
        DatasetTypeError
            If it cannot be imported.
        """
        found: type = _imported(self.pytype_name, f"storage class {self.name!r}")
        return found

    def converter_from(self, kind: type) -> Callable[[Any], Any] | None:
        """Return what makes an object of this kind of one of another Python type, or `None`.

        Parameters
        ----------
        kind : `type`
            The type of what there is; what is said of its parents counts too.
        """
        for cls in kind.__mro__ if self.converters else ():
            for name in {f"{cls.__module__}.{cls.__qualname__}", cls.__qualname__} & set(self.converters):
                found: Callable[[Any], Any] = _imported(
                    self.converters[name], f"a converter of storage class {self.name!r}"
                )
                return found
        return None

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # By value: a process that has not opened the repository that defines it can read it too.
        values = (self.name, self.pytype_name, dict(self.components), self.parameters, dict(self.converters))
        return StorageClass, values


def _imported(name: str, what: str) -> Any:
    """Import an object by its dotted name; its module may be followed by several attributes."""
    module, _, attribute = name.rpartition(".")
    attributes = [attribute]
    while True:
        try:
            found: Any = importlib.import_module(module or "builtins")
            for part in attributes:
                found = getattr(found, part)
        except ModuleNotFoundError as error:
            outer, _, inner = module.rpartition(".")
            if outer and error.name is not None and module.startswith(error.name):
                module, attributes = outer, [inner, *attributes]
                continue
            raise _not_imported(name, what, error) from error
        except (ImportError, AttributeError) as error:
            raise _not_imported(name, what, error) from error
        return found


def _not_imported(name: str, what: str, error: Exception) -> DatasetTypeError:
    return DatasetTypeError(
        f"{name!r}, {what}, cannot be imported ({error}). Is the package that has it installed?"
    )


_EXPOSURE_COMPONENTS = {
    "image": "ImageF",
    "mask": "Mask",
    "variance": "ImageF",
    "wcs": "Wcs",
    "psf": "Psf",
    "photoCalib": "PhotoCalib",
    "photo_calib": "PhotoCalib",
    "visitInfo": "VisitInfo",
    "visit_info": "VisitInfo",
    "detector": "Detector",
    "filter": "FilterLabel",
    "apCorrMap": "StructuredDataDict",
    "ap_corr": "StructuredDataDict",
    "summaryStats": "StructuredDataDict",
    "summary_stats": "StructuredDataDict",
    "metadata": "StructuredDataDict",
    "bbox": "StructuredDataList",
    "xy0": "StructuredDataList",
}
_TABLE_COMPONENTS = {"columns": "StructuredDataList", "rowcount": "Integer", "schema": "StructuredDataDict"}
_TABLE_TYPES = {
    "ArrowTable": "pyarrow.Table",
    "ArrowNumpy": "numpy.ndarray",
    "ArrowNumpyDict": "dict",
    "DataFrame": "pandas.DataFrame",
}
"""Python types of the storage classes of tables; each converts to each, by way of an astropy Table."""
_EXPOSURE = "butler_dask.imaging.exposure.Exposure"
_TABLE = "astropy.table.Table"

_BUILT_IN: tuple[StorageClass, ...] = (
    StorageClass("StructuredDataDict", "dict"),
    StorageClass("StructuredDataList", "list"),
    StorageClass("StructuredData", "object"),
    StorageClass("Integer", "int"),
    StorageClass("Scalar", "object"),
    StorageClass("Config", "lsst.pex.config.Config"),
    StorageClass("TaskMetadata", "butler_dask.pipeline.task_metadata.TaskMetadata"),
    StorageClass("Packages", "dict"),
    StorageClass("ButlerLogRecords", "list"),
    StorageClass("NumpyArray", "numpy.ndarray"),
    *(
        StorageClass(name, _TABLE, _TABLE_COMPONENTS, frozenset({"columns"}))
        for name in ("ArrowAstropy", "AstropyTable", "SourceCatalog", "SimpleCatalog", "Catalog", "Defects")
    ),
    *(
        StorageClass(name, _TABLE_TYPES[name], _TABLE_COMPONENTS, frozenset({"columns"}))
        for name in ("ArrowTable", "ArrowNumpy", "ArrowNumpyDict", "DataFrame")
    ),
    StorageClass("Background", "butler_dask.imaging.background.BackgroundList"),
    *(
        StorageClass(name, _EXPOSURE, _EXPOSURE_COMPONENTS, frozenset({"bbox"}))
        for name in ("Exposure", "ExposureF", "ExposureI", "ExposureU", "ExposureD")
    ),
    StorageClass("ImageF", "numpy.ndarray", {}, frozenset({"bbox"})),
    StorageClass("Mask", "butler_dask.imaging.mask.Mask", {}, frozenset({"bbox"})),
    StorageClass("Wcs", "butler_dask.imaging.sky_wcs.SkyWcs"),
    StorageClass("Psf", "butler_dask.imaging.psf.Psf"),
    StorageClass("PhotoCalib", "butler_dask.imaging.photo_calib.PhotoCalib"),
    StorageClass("VisitInfo", "butler_dask.imaging.visit_info.VisitInfo"),
    StorageClass("Detector", "butler_dask.imaging.detector.Detector"),
    StorageClass("FilterLabel", "butler_dask.imaging.exposure.FilterLabel"),
    StorageClass("Camera", "butler_dask.imaging.camera.Camera"),
    StorageClass("SkyMap", "butler_dask.imaging.skymap.SkyMap"),
    StorageClass("Pickle", "object"),
)

_known: dict[str, StorageClass] = {s.name: s for s in _BUILT_IN}


def find_storage_class(name: str | StorageClass) -> StorageClass:
    """Return the storage class of a name.

    Raises
    ------
    DatasetTypeError
        If there is none; the nearest match is named.
    """
    if isinstance(name, StorageClass):
        return name
    try:
        return _known[name]
    except KeyError:
        raise DatasetTypeError(f"No storage class {name!r}.{did_you_mean(name, _known)}") from None


def register_storage_class(storage_class: StorageClass) -> None:
    """Make a further storage class known in this process.

    Raises
    ------
    DatasetTypeError
        If one of that name is known and differs.
    """
    known = _known.setdefault(storage_class.name, storage_class)
    if known != storage_class:
        raise DatasetTypeError(f"Storage class {storage_class.name!r} is already defined as {known!r}")


_KEYS = ("pytype", "inheritsFrom", "components", "derivedComponents", "parameters", "converters")


def define_storage_classes(definitions: Mapping[str, Any]) -> None:
    """Make storage classes known that a repository's configuration defines, in the reference's form.

    Parameters
    ----------
    definitions : mapping of `str` to mapping
        By name: ``pytype`` (dotted name), ``components`` and ``derivedComponents`` (storage class by
        component), ``parameters`` (names), ``converters`` (dotted function by dotted Python type), and
        ``inheritsFrom`` (the name of a storage class that gives what is not said).

    Raises
    ------
    DatasetTypeError
        If a definition has another form, or differs from what the name means already.
    """
    for name in definitions:
        _define(str(name), definitions, ())


def _define(name: str, definitions: Mapping[str, Any], heirs: tuple[str, ...]) -> StorageClass:
    given = definitions.get(name)
    if given is None:
        return find_storage_class(name)
    if name in heirs:
        raise DatasetTypeError(f"Storage class {name!r} inherits from itself")
    if not isinstance(given, Mapping):
        raise DatasetTypeError(f"The definition of storage class {name!r} is a mapping, not {given!r}")
    for key in given:
        if key not in _KEYS:
            raise DatasetTypeError(
                f"Storage class {name!r}: no setting {key!r}.{did_you_mean(str(key), _KEYS)}"
            )
    for key in ("components", "derivedComponents", "converters"):
        if not isinstance(given.get(key) or {}, Mapping):
            raise DatasetTypeError(f"Storage class {name!r}: {key} is a mapping, not {given[key]!r}")
    parent = StorageClass(name)
    if given.get("inheritsFrom"):
        parent = _define(str(given["inheritsFrom"]), definitions, (*heirs, name))
    parts = {**parent.components, **(given.get("components") or {}), **(given.get("derivedComponents") or {})}
    defined = StorageClass(
        name,
        str(given.get("pytype", parent.pytype_name)),
        {str(k): str(v) for k, v in parts.items()},
        parent.parameters | {str(p) for p in given.get("parameters") or ()},
        {**parent.converters, **(given.get("converters") or {})},
    )
    for component, kind in defined.components.items():
        if kind not in _known and kind not in definitions:
            raise DatasetTypeError(
                f"Storage class {name!r}: component {component!r} has no known storage class {kind!r}."
                f"{did_you_mean(kind, _known)}"
            )
    register_storage_class(defined)
    return defined


def storage_class_names() -> list[str]:
    """Return the names of all known storage classes, sorted."""
    return sorted(_known)
