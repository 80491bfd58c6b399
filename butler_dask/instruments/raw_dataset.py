"""The ``raw`` dataset type, the same for all instruments, and the identity of its datasets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..vocabulary.data_id import DataCoordinate
from ..vocabulary.dataset import DatasetRef
from ..vocabulary.dataset_id import dataset_id_of_data_id
from ..vocabulary.dataset_type import DatasetType
from ..vocabulary.dimensions import DimensionUniverse


def raw_dataset_type(universe: DimensionUniverse) -> DatasetType:
    """Return the definition of the ``raw`` dataset type.

    Parameters
    ----------
    universe : `DimensionUniverse`
        The repository's.
    """
    return DatasetType("raw", ("instrument", "exposure", "detector"), "Exposure", universe=universe)


def raw_ref(dataset_type: DatasetType, data_id: Mapping[str, Any], run: str) -> DatasetRef:
    """Return the dataset of one raw file.

    Parameters
    ----------
    dataset_type : `DatasetType`
        As `raw_dataset_type` gives it.
    data_id : mapping
        Instrument, exposure and detector.
    run : `str`
        RUN collection it goes to.

    Returns
    -------
    ref : `DatasetRef`
        Its UUID follows from data ID and run, so that it is the same in every repository.
    """
    return DatasetRef(
        dataset_type,
        DataCoordinate.standardize(data_id, dimensions=dataset_type.dimensions),
        run,
        id=dataset_id_of_data_id(dataset_type.name, data_id, run),
    )
