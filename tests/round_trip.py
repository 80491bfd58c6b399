"""Objects of every storage class, and what it means that one survived being written and read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from butler_dask.datastore.dataset_layout import DatasetLayout
from butler_dask.datastore.file_datastore import FileDatastore
from butler_dask.imaging.detector import Amplifier, Detector
from butler_dask.imaging.exposure import Exposure, FilterLabel
from butler_dask.imaging.mask import Mask
from butler_dask.imaging.photo_calib import PhotoCalib
from butler_dask.imaging.psf import Psf
from butler_dask.imaging.sky_wcs import SkyWcs
from butler_dask.imaging.visit_info import VisitInfo
from butler_dask.vocabulary.data_id import DataCoordinate
from butler_dask.vocabulary.dataset import DatasetRef
from butler_dask.vocabulary.dataset_type import DatasetType


def make_ref(
    storage_class: str,
    *,
    name: str = "thing",
    run: str = "u/someone/run",
    visit: int = 903344,
    detector: int = 5,
) -> DatasetRef:
    dataset_type = DatasetType(name, ["visit", "detector"], storage_class)
    data_id = DataCoordinate.standardize(
        {"instrument": "HSC", "visit": visit, "detector": detector}, dimensions=dataset_type.dimensions
    )
    return DatasetRef(dataset_type, data_id, run)


def make_wcs(*, sip: bool = True) -> SkyWcs:
    a = np.zeros((3, 3))
    a[2, 0], a[1, 1] = 1.25e-7, -3.5e-8
    return SkyWcs.tangent(
        (20.5, 31.25),
        (150.123456, 2.2),
        np.array([[-4.7e-5, 1e-7], [1e-7, 4.7e-5]]),
        sip_a=a if sip else None,
        sip_b=a.T.copy() if sip else None,
    )


def make_detector() -> Detector:
    amplifiers = tuple(
        Amplifier(
            f"A{i}",
            (i * 24, 0, 24, 64),
            (i * 30, 0, 30, 70),
            (i * 30 + 3, 0, 24, 64),
            gain=3.1 + i / 3,
            linearity_coefficients=(1e-7, -2e-13),
            flip_x=bool(i),
        )
        for i in range(2)
    )
    return Detector(
        5, "1_53", (64, 48), (70, 60), amplifiers, serial="049", yaw_deg=90.0, crosstalk=np.eye(2) * 1e-4
    )


def make_exposure(shape: tuple[int, int] = (64, 48), *, dtype: str = "f4", seed: int = 1) -> Exposure:
    rng = np.random.default_rng(seed)
    image = rng.normal(100.0, 10.0, shape).astype(dtype)
    mask = Mask.zeros(shape)
    mask.add_plane("GHOST")
    mask.array[3:9, 5] = mask.bitmask(("SAT", "DETECTED_NEGATIVE"))
    mask.array[-1, -1] = mask.bitmask("GHOST")
    return Exposure(
        image,
        mask,
        rng.uniform(90, 110, shape).astype(np.float32),
        (1000, -20),
        make_wcs(),
        Psf(rng.normal(size=(3, 5, 5)), 1, (24.0, 32.0), (24.0, 32.0), 0.5),
        PhotoCalib(12.345678901234567, 0.01),
        make_detector(),
        VisitInfo(903344, 30.0, begin_tai="2013-06-17T13:33:06.000", object_name="SSP 'wide'", airmass=1.1),
        FilterLabel("r", "HSC-R"),
        {"base_PsfFlux": 1.0, "base_CircularApertureFlux_3_0": np.array([1.1, 1e-3, -0.2])},
        {"psfSigma": 1.7, "zeroPoint": float("nan")},
        {"OBJECT": "SSP", "long name with (odd) letters": "é" * 100, "EXPTIME": 30.0, "N": 3, "GOOD": True},
    )


def make_table(rows: int = 7) -> Any:
    from astropy.table import Column, MaskedColumn, Table

    rng = np.random.default_rng(2)
    table = Table()
    table["id"] = np.arange(rows, dtype=np.int64) + 2**60
    table["coord_ra"] = Column(rng.uniform(0, 6, rows), unit="rad", description="right ascension, ICRS")
    table["flux"] = rng.normal(size=rows).astype(np.float32)
    table["flag"] = np.arange(rows) % 2 == 0
    table["flags"] = np.ones((rows, 3), dtype=bool)
    table["moments"] = rng.normal(size=(rows, 2, 3))
    table["one"] = np.ones((rows, 1), dtype=np.int16)
    table["word"] = np.array(
        ["", "a", "Jürgen", "日本", "x y ", "'", "longest of all"][:rows] * 1, dtype="U16"
    )
    table["raw"] = np.array([b"ab"] * rows, dtype="S4")
    for code in ("u1", "i1", "u2", "i2", "u4", "i4", "u8"):
        limits = np.iinfo(code)
        table[code] = np.resize(np.array([limits.min, limits.max, 1], dtype=code), rows)
    table["complex"] = (rng.normal(size=rows) + 1j).astype(np.complex64)
    mask = np.arange(rows) == 3
    table["masked_float"] = MaskedColumn(rng.normal(size=rows), mask=mask)
    table["masked_int"] = MaskedColumn(np.arange(rows), mask=mask, unit="pix")
    table["masked_unsigned"] = MaskedColumn(np.arange(rows, dtype="u2"), mask=mask)
    table["masked_bool"] = MaskedColumn(np.ones(rows, dtype=bool), mask=mask)
    table["masked_word"] = MaskedColumn(np.array(["yes"] * rows), mask=mask)
    table.meta = {"a long key": [1, 2, {"x": None}], "author": "Ünal"}
    return table


def assert_same(mine: Any, theirs: Any) -> None:
    """Fail unless two objects have the same type and content, to the last bit (WCS: 1e-7 pixels)."""
    assert type(theirs) is type(mine)
    if isinstance(mine, np.ndarray):
        assert theirs.dtype == mine.dtype
        assert theirs.dtype.isnative
        np.testing.assert_array_equal(theirs, mine)
    elif isinstance(mine, Exposure):
        for name in Exposure.__dataclass_fields__:
            assert_same(getattr(mine, name), getattr(theirs, name))
    elif isinstance(mine, Mask):
        assert theirs.planes == mine.planes
        assert_same(mine.array, theirs.array)
    elif isinstance(mine, SkyWcs):
        x, y = np.meshgrid(np.linspace(0, 4000, 5), np.linspace(0, 4000, 5))
        for a, b in zip(mine.pixel_to_sky(x, y), theirs.pixel_to_sky(x, y), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-7 * mine.pixel_scale_arcsec() / 3600)
    elif isinstance(mine, Psf):
        assert (mine.degree, mine.center, mine.scale, mine.step) == (
            theirs.degree,
            theirs.center,
            theirs.scale,
            theirs.step,
        )
        assert_same(mine.coefficients, theirs.coefficients)
    elif isinstance(mine, VisitInfo):
        assert repr(mine) == repr(theirs)  # NaN is not equal to itself
    elif isinstance(mine, Detector):
        assert theirs == mine
        assert_same(mine.crosstalk, theirs.crosstalk)
    elif isinstance(mine, dict):
        assert list(theirs) == list(mine)
        for key in mine:
            assert_same(mine[key], theirs[key])
    elif hasattr(mine, "colnames"):
        assert theirs.colnames == mine.colnames
        assert theirs.meta == mine.meta
        for name in mine.colnames:
            a, b = mine[name], theirs[name]
            assert type(a) is type(b), name
            assert (a.dtype, a.shape, a.unit, a.description) == (b.dtype, b.shape, b.unit, b.description), (
                name
            )
            if hasattr(a, "mask"):
                np.testing.assert_array_equal(a.mask, b.mask)
                np.testing.assert_array_equal(a.compressed(), b.compressed())
            else:
                np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    elif isinstance(mine, float) and mine != mine:
        assert theirs != theirs
    else:
        assert theirs == mine


class RoundTrip:
    """A datastore in a directory of its own, through which objects are sent."""

    def __init__(self, root: Path) -> None:
        layout = DatasetLayout(trust={"pickle": True})
        self.datastore = FileDatastore(str(root / "store"), layout=layout)

    def __call__(
        self,
        obj: Any,
        storage_class: str,
        *,
        wanted: str | None = None,
        component: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Any:
        """Write an object, and read it or part of it, as another storage class if wanted."""
        ref = make_ref(storage_class)
        record = self.datastore.put(obj, ref)
        ref = ref if component is None else ref.makeComponentRef(component)
        return self.datastore.get(record, ref, storage_class=wanted, parameters=parameters)

    def check(self, obj: Any, storage_class: str) -> None:
        """Fail unless the object comes back as it was, and its file is what was recorded."""
        ref = make_ref(storage_class)
        record = self.datastore.put(obj, ref)
        assert_same(obj, self.datastore.get(record, ref))
        assert self.datastore.check(record, checksum=True) is None
        predicted = self.datastore.predicted_record(ref)
        assert (predicted.path, predicted.formatter) == (record.path, record.formatter)
