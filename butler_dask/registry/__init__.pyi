"""The names of this package that others use, and the parts of a registry; each is loaded when first used."""

from .associations import Associations as Associations
from .collection_removal import CollectionRemoval as CollectionRemoval
from .dataset_inserts import DatasetInserts as DatasetInserts
from .dataset_search import DatasetSearch as DatasetSearch
from .dataset_types import DatasetTypes as DatasetTypes
from .datasets import Datasets as Datasets
from .dimension_records import DimensionRecords as DimensionRecords
from .migration import migrate as migrate, plan_migration as plan_migration
from .overlay import Overlay as Overlay
from .quanta import Quanta as Quanta
from .queries import Queries as Queries
from .registry import Registry as Registry
from .run_claims import RunClaim as RunClaim, RunClaims as RunClaims

# The reference's names come from the package above; a stub that is read at run time cannot name it.
def __getattr__(name: str) -> object: ...
