"""ButlerParts: what every group of a butler's methods works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..datastore.datastore import Datastore
    from ..registry.registry import Registry
    from ..vocabulary.search_defaults import SearchDefaults
    from .dataset_finder import DatasetFinder
    from .open_repository import OpenRepository


class ButlerParts:
    """An open repository, and one user's defaults for what to search and where to put.

    The groups of methods (`ButlerRepositories`, `DatasetLookups`, `DatasetQueries`, `DatasetRemoval`,
    `DatasetTransfers`) derive from it, and `Butler` from these, side by side.
    """

    repository: OpenRepository
    """The open repository: its registry by the column, its datastore, and changes of both together."""

    _registry: Registry
    _datastore: Datastore
    _defaults: SearchDefaults
    _finder: DatasetFinder
