"""StorageClass: what kind of Python object a dataset is, and which parts of it can be read alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import DatasetTypeError, MissingStorageClassError, did_you_mean
from .dotted_name import dotted_name, import_by_name


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
        name = self.pytype_name if "." in self.pytype_name else f"builtins.{self.pytype_name}"
        found: type = import_by_name(name, "type", DatasetTypeError, of=f"storage class {self.name!r}")
        return found

    def converter_from(self, kind: type) -> Callable[[Any], Any] | None:
        """Return what makes an object of this kind of one of another Python type, or `None`.

        Parameters
        ----------
        kind : `type`
            The type of what there is; what is said of its parents counts too.
        """
        for cls in kind.__mro__ if self.converters else ():
            for name in {dotted_name(cls), cls.__qualname__} & set(self.converters):
                found: Callable[[Any], Any] = import_by_name(
                    self.converters[name], "converter", DatasetTypeError, of=f"storage class {self.name!r}"
                )
                return found
        return None

    def allComponents(self) -> dict[str, StorageClass]:
        """Return the storage classes of all parts by their names."""
        return {name: find_storage_class(kind) for name, kind in self.components.items()}

    def isComposite(self) -> bool:
        """Return whether objects are put together of parts; a table's columns are computed from it."""
        return bool(self.components) and self.pytype_name != _TABLE and self.name not in _TABLES

    def knownParameters(self) -> set[str]:
        """Return the parameters ``Butler.get`` takes."""
        return set(self.parameters)

    def validateParameters(self, parameters: Iterable[str] | None = None) -> None:
        """Check the names of parameters.

        Raises
        ------
        DatasetTypeError
            If one is not known; the nearest match is named.
        """
        for name in parameters or ():
            if name not in self.parameters:
                raise DatasetTypeError(
                    f"{self.name} takes no parameter {name!r}.{did_you_mean(name, self.parameters)}"
                )

    def filterParameters(
        self, parameters: Mapping[str, Any] | None, subset: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Return those parameters that are known (and among ``subset``)."""
        wanted = self.parameters if subset is None else self.parameters & set(subset)
        return {k: v for k, v in (parameters or {}).items() if k in wanted}

    def is_type(self, other: type, compare_types: bool = False) -> bool:
        """Return whether a Python type, or only its name if ``compare_types`` is not set, is this one's."""
        if compare_types:
            return self.pytype is other
        return self.pytype_name in (other.__name__, dotted_name(other)) or (self.pytype is other)

    def validateInstance(self, instance: Any) -> bool:
        """Return whether an object is of this kind."""
        return isinstance(instance, self.pytype)

    def can_convert(self, other: StorageClass) -> bool:
        """Return whether an object of the other kind can be had as one of this kind."""
        if self.pytype_name in (other.pytype_name, "object"):
            return True
        theirs = other.pytype
        if self.converter_from(theirs) is not None or {self.name, other.name} <= _TABLES:
            return True
        if issubclass(theirs, self.pytype):
            return True
        if self.pytype_name == "dict":
            return other.pytype_name == _TABLE or any(
                hasattr(theirs, m) for m in ("to_dict", "toDict", "to_json_dict")
            )
        if self.pytype_name == _TABLE:
            return other.pytype_name in ("dict", "numpy.ndarray")
        if self.pytype_name == "numpy.ndarray":
            return other.pytype_name in (_TABLE, _EXPOSURE)
        if self.pytype_name == _EXPOSURE:
            return other.pytype_name == "numpy.ndarray"
        return other.pytype_name == "dict" and hasattr(self.pytype, "from_dict")

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        # By value: a process that has not opened the repository that defines it can read it too.
        values = (self.name, self.pytype_name, dict(self.components), self.parameters, dict(self.converters))
        return StorageClass, values


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
_TABLES = frozenset({"ArrowAstropy", "ArrowTable", "ArrowNumpy", "ArrowNumpyDict", "DataFrame"})
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
        hint = did_you_mean(name, _known)
        raise MissingStorageClassError(f"No storage class {name!r}.{hint}") from None


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


class StorageClassFactory:
    """Storage classes by name, as the reference's singleton: every instance knows the same."""

    __slots__ = ()

    def getStorageClass(self, storageClassName: str) -> StorageClass:
        """Return the storage class of a name.

        Raises
        ------
        DatasetTypeError
            If there is none; the nearest match is named.
        """
        return find_storage_class(storageClassName)

    def findStorageClass(self, pytype: type, compare_types: bool = False) -> StorageClass:
        """Return the first storage class of a Python type.

        Raises
        ------
        DatasetTypeError
            If there is none.
        """
        for storage_class in _known.values():
            if storage_class.is_type(pytype, compare_types):
                return storage_class
        raise DatasetTypeError(f"No storage class is for {dotted_name(pytype)}.")

    def registerStorageClass(self, storageClass: StorageClass) -> None:
        """Make a further storage class known in this process; see `register_storage_class`."""
        register_storage_class(storageClass)

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return storage_class_names()

    def __contains__(self, name: object) -> bool:
        return (name.name if isinstance(name, StorageClass) else name) in _known

    def __iter__(self) -> Iterator[str]:
        return iter(storage_class_names())

    def __len__(self) -> int:
        return len(_known)


def storage_class_names() -> list[str]:
    """Return the names of all known storage classes, sorted."""
    return sorted(_known)
