"""The names of this package that others use; each module is loaded when a name of it is first used."""

from .butler import Butler as Butler
from .dataset_choice import DataIdChoice as DataIdChoice, DatasetChoice as DatasetChoice
from .repository import (
    Repository as Repository,
    known_repositories as known_repositories,
)
from .repository_check import check_repository as check_repository, repair_repository as repair_repository
from .settings_document import (
    full_settings as full_settings,
    part_of_settings as part_of_settings,
    seed_settings as seed_settings,
)
